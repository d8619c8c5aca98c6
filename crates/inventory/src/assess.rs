//! From what an image has to what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_baseline::Issue;
use portcullis_baseline::passwords::WordList;
use portcullis_osv::database::{Database, DatabaseError};
use portcullis_secrets::{Finder, RULES};
use portcullis_types::{Class, Coverage, Finding, Severity, Timestamp};

use crate::advisories::{Matched, matched};
use crate::{Distribution, Image, Item, Kind, Merged, Signature, Wishes};

/// The name of our scanner in reports and findings.
pub const SCANNER: &str = "portcullis";
/// Most characters of a title.
const MAX_TITLE: usize = 160;
/// Most findings of one class, severity and chance to mend them.
const MAX_ALIKE: usize = 10_000;
/// The finding of an image that has more.
const TOO_MANY: &str = "too-many-findings";

/// A list of malicious files.
pub trait Hashes {
    /// The whole SHA-256 and the name of the file whose digest begins like this.
    fn find(&self, hash: &[u8; 16]) -> Option<(String, String)>;
}

/// What was known and looked for when an image was read, and what is known now.
pub struct Knowledge<'k> {
    /// Advisories; without them nothing is said of vulnerabilities.
    pub database: Option<&'k Database>,
    /// Lists of malicious files, if there are some.
    pub hashes: Option<&'k dyn Hashes>,
    /// The classes that the layers were searched for.
    pub searched: BTreeSet<Class>,
    /// Whether what lock files ask for counts.
    pub wishes: Wishes,
    /// Words that are tried as passwords.
    pub words: &'k WordList,
    /// What time it is.
    pub now: Timestamp,
}

/// What is wrong with an image, and how far the silence means anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// What was looked at.
    pub coverage: Coverage,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The ecosystems of OSV that were asked, without their releases.
    pub ecosystems: BTreeSet<String>,
}

/// Works out the findings of an image.
///
/// # Errors
/// [`DatabaseError`]: the advisories cannot be asked.
pub fn assess(
    image: &Image,
    merged: &Merged,
    knowledge: &Knowledge<'_>,
) -> Result<Assessment, DatabaseError> {
    let distribution = Distribution::of(merged);
    let mut coverage = Coverage {
        classes: knowledge.searched.clone(),
        distribution: distribution.as_ref().map(Distribution::name),
        end_of_life: distribution.as_ref().is_some_and(|d| d.is_past_its_end(knowledge.now)),
        ..Coverage::default()
    };
    let (mut findings, mut asked) = (Findings::default(), BTreeSet::new());
    if let Some(database) = knowledge.database {
        let distribution = distribution.as_ref();
        let Matched { ecosystems, uncovered, asked: of_database } =
            matched(merged, distribution, database, knowledge.wishes, &mut findings)?;
        coverage.classes.insert(Class::Vulnerability);
        coverage.ecosystems = ecosystems;
        coverage.uncovered = uncovered;
        asked = of_database;
    }
    if let Some(hashes) = knowledge.hashes {
        coverage.classes.insert(Class::Malware);
        listed(merged, hashes, &mut findings);
    }
    coverage.classes.insert(Class::Baseline);
    of_items(merged, &mut findings);
    baseline(image, merged, knowledge).into_iter().for_each(|finding| findings.add(finding));
    Ok(Assessment { coverage, findings: findings.finish(), ecosystems: asked })
}

/// Findings, bounded so that an image cannot hide one behind many: those of one severity leave no
/// less room for those of another, and what is left out is told as badly as can be.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<(Class, Severity, bool), usize>,
    left_out: BTreeSet<Class>,
}

impl Findings {
    /// Keeps a finding, if there is room.
    pub(crate) fn add(&mut self, finding: Finding) {
        let alike = (finding.class, finding.severity, finding.is_fixable());
        let count = self.counts.entry(alike).or_default();
        if *count >= MAX_ALIKE {
            self.left_out(finding.class);
            return;
        }
        *count += 1;
        self.kept.push(finding);
    }

    /// Something of a class was not looked at, or not kept, since there is too much of it.
    pub(crate) fn left_out(&mut self, class: Class) {
        self.left_out.insert(class);
    }

    fn finish(mut self) -> Vec<Finding> {
        for class in self.left_out {
            let title = "the image has more of this class than are kept, so some are not listed";
            self.kept.push(Finding {
                title: Some(title.into()),
                ..Finding::new(class, TOO_MANY, Severity::Critical, SCANNER)
            });
        }
        self.kept
    }
}

/// Files whose digest is in a list.
fn listed(merged: &Merged, hashes: &dyn Hashes, findings: &mut Findings) {
    for (at, layer) in merged.layers().iter().enumerate() {
        layer.table.each(|path, kind| {
            let Kind::File(hash) = kind else { return };
            if let Some((sha256, name)) = hashes.find(&hash)
                && merged.is_visible(at, path)
            {
                findings.add(Finding {
                    path: Some(path.into()),
                    sha256: Some(sha256.into()),
                    title: Some("its SHA-256 is on a list of malicious files".into()),
                    ..Finding::new(
                        Class::Malware,
                        cut(&name),
                        Severity::Critical,
                        "portcullis-hashes",
                    )
                });
            }
        });
    }
}

/// What was found at single paths.
fn of_items(merged: &Merged, findings: &mut Findings) {
    let seen = merged.items().into_iter().map(|(path, item)| (path, item, ""));
    // A key that an upper layer hides is in the image all the same; anything else is not.
    let hidden = merged.hidden_items().filter(|(_, item)| matches!(item, Item::Secret { .. }));
    let hidden = hidden.map(|(path, item)| (path, item, ", in a lower layer of the image"));
    for (path, item, remark) in seen.chain(hidden) {
        let finding = match item {
            Item::Malware(Signature { engine, name, severity, description, sha256 }) => Finding {
                sha256: Some(sha256.as_str().into()),
                title: description.as_deref().map(cut).map(Into::into),
                ..Finding::new(
                    Class::Malware,
                    cut(name),
                    severity.as_deref().map_or(Severity::Critical, |word| {
                        match Severity::from_scanner(word) {
                            Severity::Unknown => Severity::Critical,
                            known => known,
                        }
                    }),
                    engine.as_str(),
                )
            },
            Item::Secret { rule, line, shown } => {
                // Rules that are no more say nothing.
                let Some(rule) = RULES.iter().find(|known| known.id == rule) else { continue };
                let place = if *line > 0 { format!(" in line {line}") } else { String::new() };
                Finding {
                    title: Some(cut(&format!("{}{place}: {shown}{remark}", rule.title)).into()),
                    ..Finding::new(Class::Secret, rule.id, rule.severity, SCANNER)
                }
            }
            Item::Unread(why) => Finding {
                title: Some(cut(why).into()),
                ..Finding::new(Class::Baseline, UNREAD, Severity::Medium, SCANNER)
            },
            Item::Packages(_) | Item::Owned(_) | Item::Text(_) | Item::Mode(_) => continue,
        };
        findings.add(Finding { path: Some(path.into()), ..finding });
    }
}

/// The id of a file that could not be looked at.
const UNREAD: &str = "file-not-scanned";

/// What the checks of accounts, permissions and build say.
fn baseline(image: &Image, merged: &Merged, knowledge: &Knowledge<'_>) -> Vec<Finding> {
    let view = View::new(image, merged);
    let secrets = Finder::new();
    let in_env = view.settings.env.iter().filter_map(|entry| entry.split_once('='));
    let of_env = in_env.flat_map(|(name, value)| {
        let found = secrets.in_env(name, value);
        found.into_iter().map(move |secret| Finding {
            title: Some(
                cut(&format!("{} in ENV {name}: {}", secret.rule.title, secret.shown)).into(),
            ),
            ..Finding::new(Class::Secret, secret.rule.id, secret.rule.severity, SCANNER)
        })
    });
    let options = portcullis_baseline::Options {
        words: knowledge.words.clone(),
        today: Some(knowledge.now.as_second().div_euclid(86_400)),
        ..Default::default()
    };
    let issues = portcullis_baseline::check(&view, &options).issues;
    // A root filesystem of no image has nothing that a build could have done better.
    let is_asked = |issue: &Issue| image.config.is_some() || issue.path.is_some();
    let issues = issues.into_iter().filter(is_asked).map(|issue| Finding {
        path: issue.path.as_deref().map(|path| path.trim_start_matches('/').into()),
        title: Some(cut(&issue.detail)).filter(|title| !title.is_empty()).map(Into::into),
        ..Finding::new(Class::Baseline, issue.item.id, issue.item.severity, SCANNER)
    });
    issues.chain(of_env).collect()
}

/// An image as the checks look at it.
struct View<'a> {
    settings: portcullis_baseline::Config,
    texts: Vec<(String, &'a [u8])>,
    modes: Vec<(&'a str, portcullis_baseline::Mode)>,
    present: BTreeSet<String>,
}

impl<'a> View<'a> {
    fn new(image: &Image, merged: &'a Merged) -> Self {
        let modes = merged.items().into_iter().filter_map(|(path, item)| match item {
            Item::Mode(mode) => Some((path, *mode)),
            _ => None,
        });
        let modes = modes.collect();
        let asked = merged.paths(|path| portcullis_baseline::wants_text(path).is_some());
        let texts = asked.into_iter().filter_map(|path| {
            let text = merged.text(&path)?;
            Some((path, text))
        });
        let texts = texts.collect();
        let present = merged.paths(portcullis_baseline::wants_presence);
        Self { settings: image.settings(), texts, modes, present }
    }
}

impl portcullis_baseline::Image for View<'_> {
    fn texts(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        Box::new(self.texts.iter().map(|(path, text)| (path.as_str(), *text)))
    }

    fn modes(&self) -> Box<dyn Iterator<Item = (&str, portcullis_baseline::Mode)> + '_> {
        Box::new(self.modes.iter().copied())
    }

    fn present(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.present.iter().map(String::as_str))
    }

    fn config(&self) -> &portcullis_baseline::Config {
        &self.settings
    }
}

/// One line, short, without control characters.
pub(crate) fn cut(text: &str) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or_default().trim();
    let mut cut: String = line.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect();
    if cut.len() < line.len() && line.chars().count() > MAX_TITLE {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_finding_is_hidden_behind_many() {
        let mut findings = Findings::default();
        let finding = |class, id: &str, severity| Finding::new(class, id, severity, SCANNER);
        for at in 0..2 * MAX_ALIKE {
            findings.add(finding(Class::Secret, &at.to_string(), Severity::Low));
        }
        findings.add(finding(Class::Secret, "last", Severity::High));
        findings.add(finding(Class::Malware, "bad", Severity::Critical));
        let kept = findings.finish();
        assert_eq!(kept.len(), MAX_ALIKE + 3);
        let ids: Vec<(&str, Severity)> =
            kept[MAX_ALIKE..].iter().map(|f| (&*f.id, f.severity)).collect();
        let wanted = ["last", "bad", TOO_MANY].into_iter();
        assert_eq!(
            ids,
            wanted
                .zip([Severity::High, Severity::Critical, Severity::Critical])
                .collect::<Vec<_>>()
        );
    }
}
