//! Which VEX statement counts for a finding, and why another does not.
//!
//! A statement applies if the vulnerability, the image and the package are those of the finding:
//!
//! - **Vulnerability**: one of the statement's ids is one of the finding's, upper and lower case
//!   alike. Only findings of class `vulnerability` are asked about.
//! - **Image**: a digest must be proven for the container; a repository must be one of a name
//!   that the engine's record holds. What is claimed or unknown meets no image. So that this is no
//!   way around a policy either, a statement that suppresses nothing counts where it cannot be
//!   excluded ([`VexMatch::Possible`]), and then overrules older ones that would suppress.
//! - **Package**: where the finding has a package URL, type, namespace and name are equal, the
//!   version too if the statement has one, and each qualifier that both have. A finding without
//!   one must have the statement's name, in full where the type's namespace belongs to the name
//!   (`@babel/core`, `org.slf4j:slf4j-api`), and its version. A statement without a version then
//!   applies only to an image known by digest: by a name alone, two distributions' packages of one
//!   name could not be told apart.
//!
//! Versions are equal as text, but a Go module's `v` and an absent epoch do not count; see
//! [`same_version`].
//!
//! Of the statements that apply, the latest counts. Where that cannot be told, since times are
//! equal or missing, the most cautious does.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use portcullis_types::{
    Class, Finding, Identity, Purl, PurlError, Text, VexImage, VexProduct, VexStatement, VexStatus,
};

/// How surely a statement applies; the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VexMatch {
    /// To an image known by a digest that is proven.
    Image,
    /// To a package, whichever image it is in.
    Package,
    /// To an image known by a name of its repository only.
    Name,
    /// It cannot be excluded, and suppresses nothing.
    Possible,
}

impl fmt::Display for VexMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "applies to this image, by digest",
            Self::Package => "applies to this package in any image",
            Self::Name => "applies to images of this repository, by name",
            Self::Possible => "may apply: which image this is cannot be told",
        })
    }
}

/// The part of a package URL in which two packages differ; the later, the nearer they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackagePart {
    /// The name.
    Name,
    /// The type.
    Type,
    /// The namespace.
    Namespace,
    /// The version.
    Version,
    /// The qualifier of this name.
    Qualifier(String),
}

impl fmt::Display for PackagePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Type => f.write_str("type"),
            Self::Namespace => f.write_str("namespace"),
            Self::Version => f.write_str("version"),
            Self::Qualifier(key) => write!(f, "qualifier \"{}\"", key.escape_debug()),
        }
    }
}

/// Why a statement about a product does not apply to a finding; each reads as a sentence.
#[derive(Debug, Clone, PartialEq)]
pub enum WhyNot<'a> {
    /// Statements are about vulnerabilities only.
    NotAVulnerability(Class),
    /// It is about another one.
    OtherVulnerability {
        /// The statement's ids.
        stated: &'a [Text],
        /// The finding's id.
        found: &'a str,
    },
    /// It names neither an image nor a package.
    NoProduct,
    /// It names something that no image can be held against.
    NotCheckable {
        /// The product's name.
        product: &'a str,
    },
    /// The image is known, and is another one.
    OtherImage {
        /// The statement's.
        stated: &'a VexImage,
        /// What is known.
        found: &'a Identity,
    },
    /// Which image it is is not proven, so that nobody can say whether it is the statement's.
    ImageNotProven {
        /// The statement's.
        stated: &'a VexImage,
        /// What is known.
        found: &'a Identity,
    },
    /// What it names is no package URL.
    NotAPackageUrl(PurlError),
    /// The finding names no package.
    NoPackage,
    /// The package is another one.
    OtherPackage {
        /// In what.
        part: PackagePart,
        /// The statement's package URL; of several, the nearest.
        stated: &'a str,
        /// The finding.
        found: &'a Finding,
    },
    /// The statement has a version and the finding has none.
    NoVersion {
        /// The statement's package URL.
        stated: &'a str,
    },
    /// The finding has no package URL, the statement no version, and the image no digest.
    NameAlone {
        /// The statement's package URL.
        stated: &'a str,
    },
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAVulnerability(class) => {
                write!(
                    f,
                    "statements are about vulnerabilities, and this finding is of class {class}"
                )
            }
            Self::OtherVulnerability { stated, found } => {
                write!(f, "it is about {}, and the finding is {found}", stated.join(", "))
            }
            Self::NoProduct => f.write_str("it names neither an image nor a package"),
            Self::NotCheckable { product } => write!(
                f,
                "its product \"{product}\" is no image that can be checked: name the image by \
                 digest (pkg:oci/NAME@sha256:...) or by repository \
                 (pkg:oci/NAME?repository_url=HOST/PATH)"
            ),
            Self::OtherImage { stated, found } => {
                write!(f, "it is about the image {stated}, and this one is ")?;
                known(f, stated, found)
            }
            Self::ImageNotProven { stated, found } => {
                write!(f, "it is about the image {stated}, and which image this is is not proven")?;
                found.note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
            }
            Self::NotAPackageUrl(error) => error.fmt(f),
            Self::NoPackage => f.write_str("it is about a package, and the finding names none"),
            Self::OtherPackage { part, stated, found } => {
                write!(f, "it is about {stated}, and the finding about ")?;
                match (&found.purl, &found.package, &found.version) {
                    (Some(purl), _, _) => f.write_str(purl)?,
                    (None, Some(package), Some(version)) => write!(f, "{package} {version}")?,
                    (None, package, _) => f.write_str(package.as_deref().unwrap_or("none"))?,
                }
                write!(f, ": another {part}")
            }
            Self::NoVersion { stated } => {
                write!(f, "it is about {stated}, and the finding names no version")
            }
            Self::NameAlone { stated } => write!(
                f,
                "it is about {stated} without a version, and the scanner gave no package URL to \
                 hold against it: name a version, or the image by digest"
            ),
        }
    }
}

/// At most this many digests or names are listed.
const LISTED: usize = 4;

/// What of an image can be held against what a statement names: digests, or names.
fn known(f: &mut fmt::Formatter<'_>, stated: &VexImage, found: &Identity) -> fmt::Result {
    let listed: Vec<String> = match stated {
        VexImage::Digest(_) => {
            found.config.iter().chain(&found.manifests).map(ToString::to_string).collect()
        }
        _ => found.held_names().map(ToString::to_string).collect(),
    };
    match listed.len() {
        0 => f.write_str("held under no name"),
        1..=LISTED => f.write_str(&listed.join(", ")),
        more => write!(f, "{} and {} more", listed[..LISTED].join(", "), more - LISTED),
    }
}

/// Whether a statement applies to a finding in an image, as far as one of its products goes.
///
/// # Errors
/// Why it does not.
pub fn vex_applies<'a>(
    statement: &'a VexStatement,
    product: &'a VexProduct,
    finding: &'a Finding,
    identity: &'a Identity,
) -> Result<VexMatch, WhyNot<'a>> {
    if finding.class != Class::Vulnerability {
        return Err(WhyNot::NotAVulnerability(finding.class));
    }
    if !statement.vulnerability.iter().any(|id| finding.is_called(id)) {
        let (stated, found) = (&*statement.vulnerability, &*finding.id);
        return Err(WhyNot::OtherVulnerability { stated, found });
    }
    let how = image_applies(product, statement.status, identity)?;
    if product.packages.is_empty() {
        return Ok(how);
    }
    let subject = Subject::of(finding);
    let mut nearest: Option<WhyNot<'a>> = None;
    for package in &product.packages {
        match subject.is_met(package, how) {
            Ok(()) => return Ok(how),
            Err(other) if nearest.as_ref().is_none_or(|n| nearness(n) < nearness(&other)) => {
                nearest = Some(other);
            }
            Err(_) => {}
        }
    }
    Err(nearest.unwrap_or(WhyNot::NoProduct))
}

fn nearness<'w>(why: &'w WhyNot<'_>) -> (u8, Option<&'w PackagePart>) {
    match why {
        WhyNot::NotAPackageUrl(_) | WhyNot::NoPackage => (0, None),
        WhyNot::OtherPackage { part, .. } => (1, Some(part)),
        _ => (2, None),
    }
}

fn image_applies<'a>(
    product: &'a VexProduct,
    status: VexStatus,
    identity: &'a Identity,
) -> Result<VexMatch, WhyNot<'a>> {
    let stated = &product.image;
    let (is_met, how, is_known) = match stated {
        VexImage::Any if product.packages.is_empty() => return Err(WhyNot::NoProduct),
        VexImage::Any => return Ok(VexMatch::Package),
        VexImage::Named => return Err(WhyNot::NotCheckable { product: product.name() }),
        // Without a configuration, one of several is the image's, and so are their manifests.
        VexImage::Digest(digest) => {
            (identity.proves(digest), VexMatch::Image, identity.config.is_some())
        }
        VexImage::Repository { repository, tag } => {
            let is_met = identity.held_names().any(|name| {
                repository
                    .strip_prefix(name.host())
                    .and_then(|path| path.strip_prefix('/'))
                    .is_some_and(|path| name.path().eq(path.split('/')))
                    && tag.as_deref().is_none_or(|tag| name.tag() == Some(tag))
            });
            (is_met, VexMatch::Name, true)
        }
    };
    match is_met {
        true => Ok(how),
        false if identity.is_bound() && is_known => {
            Err(WhyNot::OtherImage { stated, found: identity })
        }
        false if !status.suppresses() => Ok(VexMatch::Possible),
        false => Err(WhyNot::ImageNotProven { stated, found: identity }),
    }
}

/// A finding's package, read once for many statements.
struct Subject<'a> {
    finding: &'a Finding,
    /// One that cannot be read is as good as none.
    purl: Option<Purl<'a>>,
}

impl<'a> Subject<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self { finding, purl: finding.purl.as_deref().and_then(|purl| Purl::parse(purl).ok()) }
    }

    fn is_met(&self, package: &'a str, how: VexMatch) -> Result<(), WhyNot<'a>> {
        let stated = Purl::parse(package).map_err(WhyNot::NotAPackageUrl)?;
        let part = match &self.purl {
            Some(found) => difference(&stated, found, self.finding.version.as_deref()),
            None => self.difference_by_name(package, &stated, how)?,
        };
        match part {
            None => Ok(()),
            Some(part) => Err(WhyNot::OtherPackage { part, stated: package, found: self.finding }),
        }
    }

    fn difference_by_name(
        &self,
        package: &'a str,
        stated: &Purl<'_>,
        how: VexMatch,
    ) -> Result<Option<PackagePart>, WhyNot<'a>> {
        let name = self.finding.package.as_deref().ok_or(WhyNot::NoPackage)?;
        if !is_full_name(stated, &stated.in_its_case(name)) {
            return Ok(Some(PackagePart::Name));
        }
        match (stated.version(), self.finding.version.as_deref()) {
            (None, _) if how != VexMatch::Image => Err(WhyNot::NameAlone { stated: package }),
            (None, _) => Ok(None),
            (Some(_), None) => Err(WhyNot::NoVersion { stated: package }),
            (Some(_), Some(found)) if same_version(stated, found, None) => Ok(None),
            (Some(_), Some(_)) => Ok(Some(PackagePart::Version)),
        }
    }

    /// Under which key a statement's package is found, if it can be this one.
    fn key(&self) -> Option<Box<str>> {
        match &self.purl {
            Some(purl) => Some(package_key(purl.name())),
            None => self.finding.package.as_deref().map(package_key),
        }
    }
}

/// Whether the vendor is the namespace, so that the name alone is a package's name.
fn is_of_distribution(kind: &str) -> bool {
    matches!(kind, "alpm" | "apk" | "bitnami" | "deb" | "qpkg" | "rpm")
}

fn is_full_name(stated: &Purl<'_>, name: &str) -> bool {
    match stated.namespace() {
        Some(namespace) if !is_of_distribution(stated.kind()) => {
            let rest = name.strip_prefix(namespace);
            rest.and_then(|rest| rest.strip_prefix(['/', ':'])) == Some(stated.name())
        }
        _ => name == stated.name(),
    }
}

fn difference(stated: &Purl<'_>, found: &Purl<'_>, installed: Option<&str>) -> Option<PackagePart> {
    if stated.name() != found.name() {
        return Some(PackagePart::Name);
    }
    if stated.kind() != found.kind() {
        return Some(PackagePart::Type);
    }
    if stated.namespace() != found.namespace() {
        return Some(PackagePart::Namespace);
    }
    let epoch = found.qualifier("epoch");
    let has_version =
        |version: Option<&str>| version.is_some_and(|version| same_version(stated, version, epoch));
    if stated.version().is_some() && !has_version(found.version()) && !has_version(installed) {
        return Some(PackagePart::Version);
    }
    stated
        .qualifiers()
        .filter(|(key, _)| *key != "epoch")
        .find(|(key, value)| found.qualifier(key).is_some_and(|found| found != *value))
        .map(|(key, _)| PackagePart::Qualifier(key.to_owned()))
}

/// Whether a version is the stated one.
///
/// An epoch stands before the version or in a qualifier, as tools differ. A statement without one
/// does not care for it; where it has one, a package without has the epoch 0 (Debian Policy 5.6.12;
/// rpm). Of Go modules, some tools write the `v` and others do not.
fn same_version(stated: &Purl<'_>, found: &str, found_epoch: Option<&str>) -> bool {
    let Some(version) = stated.version() else {
        return true;
    };
    match stated.kind() {
        "deb" | "rpm" => {
            let (epoch, version) = with_epoch(version, stated.qualifier("epoch"));
            let (found_epoch, found) = with_epoch(found, found_epoch);
            version == found && epoch.is_none_or(|epoch| epoch == found_epoch.unwrap_or("0"))
        }
        "golang" => {
            version.strip_prefix('v').unwrap_or(version) == found.strip_prefix('v').unwrap_or(found)
        }
        _ => version == found,
    }
}

fn with_epoch<'v>(version: &'v str, epoch: Option<&'v str>) -> (Option<&'v str>, &'v str) {
    match version.split_once(':') {
        Some((epoch, version)) if epoch.bytes().all(|b| b.is_ascii_digit()) => {
            (Some(epoch), version)
        }
        _ => (epoch, version),
    }
}

/// The statement that counts for a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VexJudgement<'a> {
    /// The statement, whatever it says: only `not_affected` and `fixed` suppress.
    pub statement: &'a VexStatement,
    /// Its product that applies.
    pub product: &'a VexProduct,
    /// How surely.
    pub how: VexMatch,
}

impl VexJudgement<'_> {
    /// Whether the finding is out of the count.
    pub fn suppresses(&self) -> bool {
        self.statement.status.suppresses()
    }

    /// Whether the image is known by a name of its repository only.
    pub fn is_by_name(&self) -> bool {
        self.how == VexMatch::Name
    }
}

/// What a statement says of a finding, product by product.
#[derive(Debug, Clone, PartialEq)]
pub struct VexAnswer<'a> {
    /// The statement.
    pub statement: &'a VexStatement,
    /// Its product.
    pub product: &'a VexProduct,
    /// Whether and how it applies.
    pub answer: Result<VexMatch, WhyNot<'a>>,
}

/// From so many packages of one vulnerability on, they are sorted by name.
const CROWDED: usize = 32;

/// Statements, found by vulnerability and, where many speak of one, by package.
///
/// Neither number of statements nor of findings makes the other expensive: one finding costs a
/// look-up for each of its ids and a comparison for each statement about its own package.
#[derive(Debug, Default)]
pub struct VexIndex {
    statements: Vec<VexStatement>,
    hasher: RandomState,
    /// Hash of an id in ASCII lower case and the statement that has it, in order.
    by_id: Vec<(u64, usize)>,
    /// The places of vulnerabilities with many packages, by the hash of the id. Most are never
    /// asked about on this node, so they are sorted on the first question.
    crowded: HashMap<u64, OnceLock<Places>>,
}

/// Two are equal if their statements are.
impl PartialEq for VexIndex {
    fn eq(&self, other: &Self) -> bool {
        self.statements == other.statements
    }
}

/// Products and packages about one vulnerability.
#[derive(Debug, Default)]
struct Places {
    /// Products that are whole images.
    images: Vec<Place>,
    by_package: HashMap<Box<str>, Vec<Place>>,
}

/// A package of a product of a statement, or a whole product, by their numbers.
#[derive(Debug, Clone, Copy)]
struct Place {
    statement: usize,
    product: usize,
    package: Option<usize>,
}

impl VexIndex {
    /// Builds the index.
    pub fn new(statements: Vec<VexStatement>) -> Self {
        let hasher = RandomState::new();
        let mut by_id: Vec<(u64, usize)> = Vec::with_capacity(statements.len() * 2);
        for (number, statement) in statements.iter().enumerate() {
            let hashes = statement.vulnerability.iter().map(|id| hash(&hasher, id));
            by_id.extend(hashes.map(|hash| (hash, number)));
        }
        by_id.sort_unstable();
        by_id.dedup();
        let mut crowded = HashMap::new();
        for group in by_id.chunk_by(|(one, _), (other, _)| one == other) {
            let products = group.iter().flat_map(|(_, number)| &statements[*number].products);
            let count: usize = products.map(|product| product.packages.len().max(1)).sum();
            if let (true, Some((hash, _))) = (count > CROWDED, group.first()) {
                crowded.insert(*hash, OnceLock::new());
            }
        }
        Self { statements, hasher, by_id, crowded }
    }

    /// All statements, in the order given.
    pub fn statements(&self) -> &[VexStatement] {
        &self.statements
    }

    /// The statement that counts for a finding in this image, if any applies.
    pub fn judge(&self, finding: &Finding, identity: &Identity) -> Option<VexJudgement<'_>> {
        if finding.class != Class::Vulnerability || self.statements.is_empty() {
            return None;
        }
        let mut best = Best::default();
        let subject = OnceCell::new();
        let subject = || subject.get_or_init(|| Subject::of(finding));
        let mut offer = |place: Place| {
            let statement = &self.statements[place.statement];
            // Ids of one hash are told apart here.
            if !statement.vulnerability.iter().any(|id| finding.is_called(id)) {
                return;
            }
            let product = &statement.products[place.product];
            let Ok(how) = image_applies(product, statement.status, identity) else {
                return;
            };
            let package = place.package.map(|package| &product.packages[package]);
            if package.is_none_or(|package| subject().is_met(package, how).is_ok()) {
                best.offer(statement, place, how);
            }
        };
        for id in ids(finding) {
            let hash = hash(&self.hasher, id);
            match self.crowded.get(&hash) {
                None => self.places_of(hash).for_each(&mut offer),
                Some(places) => {
                    let places = places.get_or_init(|| self.sorted(hash));
                    places.images.iter().copied().for_each(&mut offer);
                    let key = subject().key();
                    let of_package = key.and_then(|key| places.by_package.get(&key));
                    of_package.into_iter().flatten().copied().for_each(&mut offer);
                }
            }
        }
        best.chosen().map(|(statement, place, how)| VexJudgement {
            statement,
            product: &statement.products[place.product],
            how,
        })
    }

    /// What each statement that names the finding's vulnerability says of it, in the order given.
    pub fn explain<'a>(
        &'a self,
        finding: &'a Finding,
        identity: &'a Identity,
    ) -> Vec<VexAnswer<'a>> {
        let mut numbers: Vec<usize> =
            ids(finding).flat_map(|id| self.numbers(hash(&self.hasher, id))).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let statements = numbers.into_iter().map(|number| &self.statements[number]);
        let named = statements.filter(|s| s.vulnerability.iter().any(|id| finding.is_called(id)));
        let answer = |statement: &'a VexStatement, product: &'a VexProduct| VexAnswer {
            statement,
            product,
            answer: vex_applies(statement, product, finding, identity),
        };
        named.flat_map(|s| s.products.iter().map(move |p| answer(s, p))).collect()
    }

    /// The statements with an id of this hash.
    fn numbers(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.by_id.partition_point(|(other, _)| *other < hash);
        let group = self.by_id[start..].iter().take_while(move |(other, _)| *other == hash);
        group.map(|(_, number)| *number)
    }

    /// What could apply to a finding with an id of this hash.
    fn places_of(&self, hash: u64) -> impl Iterator<Item = Place> {
        let products = self.numbers(hash).flat_map(|statement| {
            let products = self.statements[statement].products.iter().enumerate();
            products.map(move |(number, product)| (statement, number, product))
        });
        products.filter(|(_, _, product)| product.is_checkable()).flat_map(
            |(statement, number, product)| {
                let whole = product.packages.is_empty().then_some(None);
                let packages = (0..product.packages.len()).map(Some);
                let place = move |package| Place { statement, product: number, package };
                whole.into_iter().chain(packages).map(place)
            },
        )
    }

    fn sorted(&self, hash: u64) -> Places {
        let mut places = Places::default();
        for place in self.places_of(hash) {
            let Some(package) = place.package else {
                places.images.push(place);
                continue;
            };
            let package =
                &self.statements[place.statement].products[place.product].packages[package];
            if let Ok(purl) = Purl::parse(package) {
                places.by_package.entry(package_key(purl.name())).or_default().push(place);
            }
        }
        places
    }
}

fn ids(finding: &Finding) -> impl Iterator<Item = &Text> {
    std::iter::once(&finding.id).chain(&finding.aliases)
}

/// The best of the statements that apply: the latest, and the most cautious without a time.
#[derive(Default)]
struct Best<'a> {
    timed: Option<(&'a VexStatement, Place, VexMatch)>,
    untimed: Option<(&'a VexStatement, Place, VexMatch)>,
}

impl<'a> Best<'a> {
    fn offer(&mut self, statement: &'a VexStatement, place: Place, how: VexMatch) {
        let offered = (statement, place, how);
        let slot = match statement.stated_at {
            Some(_) => &mut self.timed,
            None => &mut self.untimed,
        };
        let order = |(statement, place, how): &(&VexStatement, Place, VexMatch)| {
            (Reverse(statement.stated_at), rank(statement, *place, *how))
        };
        if slot.as_ref().is_none_or(|held| order(&offered) < order(held)) {
            *slot = Some(offered);
        }
    }

    fn chosen(self) -> Option<(&'a VexStatement, Place, VexMatch)> {
        let both = self.timed.into_iter().chain(self.untimed);
        both.min_by_key(|(statement, place, how)| rank(statement, *place, *how))
    }
}

/// Which of two statements of one time counts: the more cautious, then the surer, then the first.
fn rank(statement: &VexStatement, place: Place, how: VexMatch) -> (u8, VexMatch, usize, usize) {
    let caution = match statement.status {
        VexStatus::Affected => 0,
        VexStatus::UnderInvestigation => 1,
        VexStatus::Fixed => 2,
        VexStatus::NotAffected => 3,
    };
    (caution, how, place.statement, place.product)
}

/// The hash of an id in ASCII lower case, which ids of usual length reach without an allocation.
fn hash(hasher: &RandomState, id: &str) -> u64 {
    let mut buffer = [0_u8; 64];
    match buffer.get_mut(..id.len()) {
        Some(buffer) => {
            buffer.copy_from_slice(id.as_bytes());
            buffer.make_ascii_lowercase();
            hasher.hash_one(&*buffer)
        }
        None => hasher.hash_one(id.to_ascii_lowercase().as_bytes()),
    }
}

/// A key that is equal for all names that could be one package's: the last part of a name that a
/// namespace may precede, without the differences that some types do not count.
fn package_key(name: &str) -> Box<str> {
    let last = name.rsplit(['/', ':']).next().unwrap_or(name);
    last.to_ascii_lowercase().replace('_', "-").into()
}
