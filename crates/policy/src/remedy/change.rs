//! One thing to do, in words and as a piece of a policy.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use portcullis_types::{Cause, Class, Finding, Text};
use serde::{Serialize, Serializer};

use crate::fault::shown;

/// One thing to do. As JSON: the fields of the variant and its name as `change`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Change {
    /// Mends what is wrong.
    Mend(Mend),
    /// Makes a policy or a setting bear with it.
    Relax(Relax),
}

/// What mends an image, a start or the node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Mend {
    /// Bring a package to a version.
    Update {
        /// Which package.
        package: Text,
        /// The installed version, if it is known.
        version: Option<Text>,
        /// The version that mends all these findings.
        target: String,
        /// Where, if it is no package of the distribution.
        path: Option<Text>,
        /// Blocking findings that this mends; as JSON their ids.
        #[serde(rename = "mends", serialize_with = "as_ids")]
        #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
        findings: Vec<Arc<Finding>>,
    },
    /// Remove a malicious file from the image.
    RemoveFile {
        /// Which.
        path: Option<Text>,
        /// What it was found to be; as JSON the ids.
        #[serde(rename = "mends", serialize_with = "as_ids")]
        #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
        findings: Vec<Arc<Finding>>,
    },
    /// Build the image without a secret or a setting that no baseline allows.
    Rebuild {
        /// What.
        finding: Arc<Finding>,
    },
    /// Start the container without a dangerous setting.
    StartWithout {
        /// Which.
        finding: Arc<Finding>,
    },
    /// Start an image that these policies authorize.
    UseAuthorizedImage {
        /// Names of the policies.
        policies: Vec<String>,
    },
    /// Ask for the image by its digest.
    StartByDigest {
        /// Names of the policies.
        policies: Vec<String>,
    },
    /// Mend what failed or is missing.
    Repair {
        /// What to do.
        repair: Repair,
        /// The causes that end by it.
        causes: BTreeSet<Cause>,
        /// What happened, as the first of them says it; may be empty.
        detail: String,
    },
}

/// What to do about a failure cause. What then comes to light is not known now: a plan takes it to
/// be clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Repair {
    /// Pull the image, so that it is more than a name.
    PullAgain,
    /// Start it from an image that the engine holds.
    UseHeldImage,
    /// Try again, or raise the deadline.
    TryAgain,
    /// Scan it and import the report.
    Import,
    /// Build it on a distribution that still gets advisories.
    Rebase,
    /// Give the door a runtime specification that it can read.
    ShowSettings,
    /// Mend the store on the node.
    MendStore,
    /// Mend journal or disk.
    MendRecord,
    /// Publish the policies again.
    ApplyPolicies,
    /// Report a bug.
    ReportBug,
}

impl Repair {
    /// All, those first that may show that another policy is meant.
    pub const ALL: [Self; 10] = [
        Self::PullAgain,
        Self::UseHeldImage,
        Self::TryAgain,
        Self::Import,
        Self::Rebase,
        Self::ShowSettings,
        Self::MendStore,
        Self::MendRecord,
        Self::ApplyPolicies,
        Self::ReportBug,
    ];

    fn phrase(self) -> &'static str {
        match self {
            Self::PullAgain => "pull the image again, so that more than a name says which it is",
            Self::UseHeldImage => "start it from an image that the engine holds",
            Self::TryAgain => "try again, or raise the deadline",
            Self::Import => "scan the image for all classes, and run portcullis import",
            Self::Rebase => "build the image on a release that still gets advisories",
            Self::ShowSettings => "let the door read the settings of the start",
            Self::MendStore => "mend the verdict store on the node",
            Self::MendRecord => "mend journal or disk, so that the event can be recorded",
            Self::ApplyPolicies => "run portcullis policy apply",
            Self::ReportBug => "report it as a bug of portcullis, with the event",
        }
    }
}

/// What makes one policy, or the node's settings, bear with what is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Relax {
    /// An entry of `spec.exceptions`.
    Exception {
        /// Name of the policy.
        policy: String,
        /// The finding's id.
        id: Text,
        /// Only in this package, where no other is hit.
        package: Option<Text>,
        /// The file's hash, for malware only: then it is dangerous.
        sha256: Option<Text>,
    },
    /// An entry of `spec.whitelist`.
    Whitelist {
        /// Name of the policy.
        policy: String,
        /// The image; by digest if one is proven.
        image: String,
        /// Dangerous settings of its starts do not count either.
        workload: bool,
    },
    /// A pattern in `spec.authorized.images`.
    Authorize {
        /// Name of the policy.
        policy: String,
        /// The pattern; by digest if one is proven.
        image: String,
    },
    /// `spec.authorized.requireDigest: false`.
    AllowTag {
        /// Name of the policy.
        policy: String,
    },
    /// `alarm` in place of `block`.
    Soften {
        /// Name of the policy.
        policy: String,
        /// Whose action below `spec`: `authorized`, `unscanned`, `stale`, `onFailure.noData`,
        /// `onFailure.default`, `rules[2]`.
        place: String,
    },
    /// `alarm` in place of `block` in the node's settings.
    SoftenSetting {
        /// `defaultAction`, `policyInvalid` or `internal`.
        setting: String,
    },
    /// An entry of the settings' `sandboxImages`.
    SandboxImage {
        /// The image's digest.
        digest: String,
    },
}

fn as_ids<S: Serializer>(findings: &[Arc<Finding>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(findings.iter().map(|f| &f.id))
}

impl From<Mend> for Change {
    fn from(mend: Mend) -> Self {
        Self::Mend(mend)
    }
}

impl From<Relax> for Change {
    fn from(relax: Relax) -> Self {
        Self::Relax(relax)
    }
}

impl Change {
    /// Whether it lets something known to be malicious start.
    pub fn is_dangerous(&self) -> bool {
        matches!(self, Self::Relax(Relax::Exception { sha256: Some(_), .. }))
    }

    /// The entry to paste, with what only people know left to fill in: below `spec.exceptions`,
    /// `spec.whitelist` or `spec.authorized.images`. `None` for what is no entry of a list.
    ///
    /// `expires` is the last day of an exception.
    pub fn yaml(&self, expires: Date) -> Option<String> {
        let Self::Relax(relax) = self else {
            return None;
        };
        match relax {
            Relax::Exception { policy: _, id, package, sha256 } => {
                let mut yaml = format!("- id: {}\n", quoted(id));
                for (field, value) in [("package", package), ("sha256", sha256)] {
                    if let Some(value) = value {
                        yaml.push_str(&format!("  {field}: {}\n", quoted(value)));
                    }
                }
                yaml.push_str(&format!("  expires: {expires}\n  owner: you@example.com\n"));
                yaml.push_str("  reason: \"say why\"\n");
                Some(yaml)
            }
            Relax::Whitelist { policy: _, image, workload } => {
                let more = if *workload { "  workload: true\n" } else { "" };
                Some(format!("- image: {}\n{more}", quoted(image)))
            }
            Relax::Authorize { policy: _, image } => Some(format!("- {}\n", quoted(image))),
            Relax::AllowTag { .. }
            | Relax::Soften { .. }
            | Relax::SoftenSetting { .. }
            | Relax::SandboxImage { .. } => None,
        }
    }
}

/// A double-quoted scalar (YAML 1.2.2, section 5.7) in ASCII, whatever stands in the text.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Change {
    /// One line, in which nothing that comes from a report moves a cursor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mend(mend) => mend.fmt(f),
            Self::Relax(relax) => relax.fmt(f),
        }
    }
}

/// How many ids a line names.
const SHOWN_IDS: usize = 4;

fn ids(findings: &[Arc<Finding>]) -> String {
    let distinct: BTreeSet<&str> = findings.iter().map(|f| &*f.id).collect();
    let mut line: Vec<String> = distinct.iter().take(SHOWN_IDS).map(|id| shown(id)).collect();
    if distinct.len() > SHOWN_IDS {
        line.push(format!("+{}", distinct.len() - SHOWN_IDS));
    }
    line.join(", ")
}

fn at(path: Option<&Text>) -> String {
    path.map(|path| format!(" at {}", shown(path))).unwrap_or_default()
}

fn policies(names: &[String]) -> String {
    let word = if names.len() == 1 { "policy" } else { "policies" };
    format!("{word} {}", names.iter().map(|n| shown(n)).collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update { package, version, target, path, findings } => {
                write!(f, "update {}", shown(package))?;
                if let Some(version) = version {
                    write!(f, " from {}", shown(version))?;
                }
                let (target, path) = (shown(target), at(path.as_ref()));
                write!(f, " to {target}{path}: mends {}", ids(findings))
            }
            Self::RemoveFile { path, findings } => {
                let file = path.as_ref().map_or_else(|| "the file".to_owned(), |p| shown(p));
                write!(f, "remove {file} from the image: it is malicious ({})", ids(findings))
            }
            Self::Rebuild { finding } => {
                let (id, path) = (shown(&finding.id), at(finding.path.as_ref()));
                match finding.class {
                    Class::Secret => {
                        write!(f, "build the image without the secret {id}{path}, and revoke it")
                    }
                    _ => write!(f, "build the image without the issue {id}{path}"),
                }
            }
            Self::StartWithout { finding } => {
                write!(f, "start the container without {}", shown(&finding.id))?;
                finding.path.as_ref().map_or(Ok(()), |path| write!(f, " ({})", shown(path)))
            }
            Self::UseAuthorizedImage { policies: names } => {
                write!(f, "start an image that is authorized by {}", policies(names))
            }
            Self::StartByDigest { policies: names } => {
                write!(f, "ask for the image by its digest, as {} wants it", policies(names))
            }
            Self::Repair { repair, causes: _, detail } => {
                f.write_str(repair.phrase())?;
                if detail.is_empty() { Ok(()) } else { write!(f, " ({})", shown(detail)) }
            }
        }
    }
}

impl fmt::Display for Relax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception { policy, id, package, sha256 } => {
                if sha256.is_some() {
                    f.write_str("DANGEROUS, this is malware: ")?;
                }
                write!(f, "add an exception for {}", shown(id))?;
                if let Some(package) = package {
                    write!(f, " in {}", shown(package))?;
                }
                if let Some(sha256) = sha256 {
                    write!(f, " of the file {}", shown(sha256))?;
                }
                write!(f, " to policy {}", shown(policy))
            }
            Self::Whitelist { policy, image, workload } => {
                write!(f, "add {} to spec.whitelist of policy {}", shown(image), shown(policy))?;
                if *workload { f.write_str(", with workload: true") } else { Ok(()) }
            }
            Self::Authorize { policy, image } => {
                let (image, policy) = (shown(image), shown(policy));
                write!(f, "add {image} to spec.authorized.images of policy {policy}")
            }
            Self::AllowTag { policy } => {
                write!(f, "set spec.authorized.requireDigest: false in policy {}", shown(policy))
            }
            Self::Soften { policy, place } => {
                let key = match place.strip_prefix("onFailure.") {
                    Some(_) => place.clone(),
                    None => format!("{place}.action"),
                };
                write!(f, "set spec.{}: alarm in policy {}", shown(&key), shown(policy))
            }
            Self::SoftenSetting { setting } => {
                write!(f, "set {}: alarm in the node's settings", shown(setting))
            }
            Self::SandboxImage { digest } => {
                write!(f, "add {} to sandboxImages of the node's settings", shown(digest))
            }
        }
    }
}
