//! What an expression is asked about.

use std::cell::OnceCell;

use portcullis_types::{Finding, Identity, ImageConfig, Request, Timestamp};

use super::error::EvaluationError;
use super::types::Field;
use super::value::{Lent, List, Map, Value};

/// The variables of an expression, for one start.
///
/// Make one per start and set [`Input::finding`] for each finding: digests and references are
/// written out at most once.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The finding that is asked about; `None` for a rule without a class.
    pub finding: Option<&'a Finding>,
    identity: &'a Identity,
    image: Option<&'a ImageConfig>,
    request: &'a Request,
    now: Timestamp,
    written: Written,
}

/// What the types do not hold as text.
#[derive(Debug, Clone, Default)]
struct Written {
    digest: OnceCell<Option<String>>,
    manifests: OnceCell<Vec<Value<'static>>>,
    references: OnceCell<Vec<Value<'static>>>,
}

impl<'a> Input<'a> {
    /// One start, about no finding yet. `image` is `None` if its configuration was not read.
    pub fn new(
        identity: &'a Identity,
        image: Option<&'a ImageConfig>,
        request: &'a Request,
        now: Timestamp,
    ) -> Self {
        Self { finding: None, identity, image, request, now, written: Written::default() }
    }

    pub(super) fn now(&self) -> Value<'a> {
        Value::Timestamp(self.now.into())
    }

    /// What a field holds; `Ok(None)` if that is not known.
    pub(super) fn field(&self, field: Field) -> Result<Option<Value<'_>>, EvaluationError> {
        let finding = || self.finding.ok_or(EvaluationError::NoFinding);
        let time = |time: Option<Timestamp>| time.map(|time| Value::Timestamp(time.into()));
        let bound = self.identity.is_bound();
        let request = self.request;
        // Unless all of the pod is known, an empty text may be a name that was not told.
        let of_pod =
            |text: &'a str| (request.pod_known || !text.is_empty()).then_some(Value::text(text));
        Ok(match field {
            Field::Id => Some(Value::text(&finding()?.id)),
            Field::Aliases => Some(Value::List(List::Texts(&finding()?.aliases))),
            Field::Class => Some(Value::text(finding()?.class.as_str())),
            Field::Severity => Some(Value::text(finding()?.severity.as_str())),
            Field::Package => finding()?.package.as_deref().map(Value::text),
            Field::Version => finding()?.version.as_deref().map(Value::text),
            Field::FixedVersion => finding()?.fixed_version.as_deref().map(Value::text),
            Field::Fixable => Some(Value::Bool(finding()?.is_fixable())),
            Field::Path => finding()?.path.as_deref().map(Value::text),
            Field::Cvss => finding()?.cvss.map(|score| Value::Double(as_written(score))),
            Field::Epss => finding()?.epss.map(|score| Value::Double(as_written(score))),
            Field::Kev => Some(Value::Bool(finding()?.kev)),
            Field::Published => time(finding()?.published),
            Field::Fixed => time(finding()?.fixed),
            Field::FirstSeen => time(finding()?.first_seen),
            Field::Source => Some(Value::text(&finding()?.source)),
            Field::Digest => self
                .written
                .digest
                .get_or_init(|| {
                    self.identity.config.as_ref().filter(|_| bound).map(ToString::to_string)
                })
                .as_deref()
                .map(Value::text),
            Field::ManifestDigest => self.manifests().first().map(Value::lend),
            Field::ManifestDigests => Some(borrowed(self.manifests())),
            Field::References => Some(borrowed(self.references())),
            Field::Created => time(self.image.and_then(|image| image.created)),
            Field::Labels => self.image.map(|image| Value::Map(Map::Texts(&image.labels))),
            Field::User => self.image.map(|image| Value::text(&image.user)),
            Field::Namespace => of_pod(&request.namespace),
            Field::Pod => of_pod(&request.pod),
            Field::PodLabels => {
                request.pod_known.then_some(Value::Map(Map::Texts(&request.pod_labels)))
            }
            Field::Container => of_pod(&request.container),
            Field::Engine => Some(Value::text(request.engine.as_str())),
            Field::Node => Some(Value::text(&request.node)),
            Field::Kind => Some(Value::text(request.kind.as_str())),
        })
    }

    fn manifests(&self) -> &[Value<'static>] {
        self.written.manifests.get_or_init(|| {
            let proven = self.identity.manifests.iter().filter(|_| self.identity.is_bound());
            proven.map(|digest| Value::shared_text(digest.to_string())).collect()
        })
    }

    fn references(&self) -> &[Value<'static>] {
        self.written.references.get_or_init(|| {
            self.identity.held_names().map(|name| Value::shared_text(name.to_string())).collect()
        })
    }
}

fn borrowed<'v>(values: &'v [Value<'static>]) -> Value<'v> {
    Value::List(List::Values(Lent::Borrowed(values)))
}

/// The double that is written as the score was: 7.1 as `f32` lies below 7.1 as `f64`, and a policy
/// that asks for `>= 7.1` must find it.
fn as_written(score: f32) -> f64 {
    const MOST_DECIMALS: i32 = 9;
    let exact = f64::from(score);
    (0..=MOST_DECIMALS)
        .map(|decimals| {
            let scale = 10_f64.powi(decimals);
            (exact * scale).round() / scale
        })
        .find(|rounded| *rounded as f32 == score)
        .unwrap_or(exact)
}
