//! CSAF 2.0 and 2.1, profile VEX (OASIS CSAF 2.0, sections 3.2.2, 3.2.3 and 4.5).
//!
//! A status names products by id; the product tree says what these are. A relationship makes one
//! product of two, a component within a product: then the component is the package and the product
//! the image. An image by digest is what it is, on whatever platform; every other component is
//! only as good as the product around it.
//!
//! `recommended` says where to move to and not what is affected, so it is no statement. 2.1's
//! `unknown` counts as under investigation: it suppresses nothing.

use std::collections::{BTreeMap, HashMap};

use portcullis_types::{Text, VexImage, VexProduct, VexStatement, VexStatus};
use serde::Deserialize;

use super::json::{Note, Word, word};
use super::product::{Component, Target, packages, product};
use super::{Draft, MAX_NOTE, VexError};
use crate::text::shortened;

/// Most relationships that are followed from one product.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow)]
    document: Option<Head<'a>>,
    #[serde(borrow)]
    product_tree: Option<ProductTree<'a>>,
    #[serde(borrow)]
    vulnerabilities: Option<Vec<Vulnerability<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    tracking: Option<Tracking<'a>>,
}

#[derive(Debug, Deserialize)]
struct Tracking<'a> {
    #[serde(borrow)]
    current_release_date: Option<Word<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProductTree<'a> {
    #[serde(borrow)]
    branches: Option<Vec<Branch<'a>>>,
    #[serde(borrow)]
    full_product_names: Option<Vec<FullProductName<'a>>>,
    #[serde(borrow)]
    product_groups: Option<Vec<ProductGroup<'a>>>,
    #[serde(borrow)]
    relationships: Option<Vec<Relationship<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Branch<'a> {
    #[serde(borrow)]
    category: Option<Word<'a>>,
    #[serde(borrow)]
    branches: Option<Vec<Branch<'a>>>,
    #[serde(borrow)]
    product: Option<FullProductName<'a>>,
}

#[derive(Debug, Deserialize)]
struct FullProductName<'a> {
    #[serde(borrow)]
    name: Option<Word<'a>>,
    #[serde(borrow)]
    product_id: Option<Word<'a>>,
    #[serde(borrow)]
    product_identification_helper: Option<Helper<'a>>,
}

#[derive(Debug, Deserialize)]
struct Helper<'a> {
    #[serde(borrow)]
    purl: Option<Word<'a>>,
    /// Since 2.1.
    #[serde(borrow)]
    purls: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    hashes: Option<Vec<Hashes<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Hashes<'a> {
    #[serde(borrow)]
    file_hashes: Option<Vec<FileHash<'a>>>,
}

#[derive(Debug, Deserialize)]
struct FileHash<'a> {
    #[serde(borrow)]
    algorithm: Option<Word<'a>>,
    #[serde(borrow)]
    value: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct ProductGroup<'a> {
    #[serde(borrow)]
    group_id: Option<Word<'a>>,
    #[serde(borrow)]
    product_ids: Option<Vec<Word<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Relationship<'a> {
    #[serde(borrow)]
    category: Option<Word<'a>>,
    #[serde(borrow)]
    product_reference: Option<Word<'a>>,
    #[serde(borrow)]
    relates_to_product_reference: Option<Word<'a>>,
    #[serde(borrow)]
    full_product_name: Option<FullProductName<'a>>,
}

#[derive(Debug, Deserialize)]
struct Vulnerability<'a> {
    #[serde(borrow)]
    cve: Option<Word<'a>>,
    #[serde(borrow)]
    ids: Option<Vec<Id<'a>>>,
    #[serde(borrow)]
    product_status: Option<ProductStatus<'a>>,
    #[serde(borrow)]
    flags: Option<Vec<Remark<'a>>>,
    #[serde(borrow)]
    threats: Option<Vec<Remark<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    text: Option<Word<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProductStatus<'a> {
    #[serde(borrow)]
    first_affected: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    known_affected: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    last_affected: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    first_fixed: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    fixed: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    known_not_affected: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    under_investigation: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    unknown: Option<Vec<Word<'a>>>,
}

/// A flag or a threat: why some products have their status.
#[derive(Debug, Deserialize)]
struct Remark<'a> {
    label: Option<Note>,
    #[serde(borrow)]
    category: Option<Word<'a>>,
    details: Option<Note>,
    #[serde(borrow)]
    product_ids: Option<Vec<Word<'a>>>,
    #[serde(borrow)]
    group_ids: Option<Vec<Word<'a>>>,
}

/// Takes the statements of a document over.
pub(super) fn read(document: Document<'_>, draft: &mut Draft<'_>) -> Result<(), VexError> {
    let tracking = document.document.and_then(|head| head.tracking);
    let time = tracking.and_then(|tracking| tracking.current_release_date);
    let time = draft.time("document", word(&time));
    let tree = document.product_tree.unwrap_or_default();
    let mut catalogue = Catalogue::of(&tree);
    let vulnerabilities = document.vulnerabilities.unwrap_or_default();
    if vulnerabilities.is_empty() {
        draft.warn("document", "it has no vulnerabilities");
    }
    for (index, vulnerability) in vulnerabilities.iter().enumerate() {
        let place = format!("vulnerability {}", index + 1);
        let named = vulnerability.ids.iter().flatten().filter_map(|id| word(&id.text));
        let ids = draft.ids(word(&vulnerability.cve).into_iter().chain(named))?;
        if ids.is_empty() {
            draft.warn(&place, "it has neither a CVE nor another id: passed over");
            continue;
        }
        let reasons = Reasons::of(vulnerability, &catalogue, draft)?;
        let Some(status) = &vulnerability.product_status else {
            draft.warn(&place, "it has no product status: passed over");
            continue;
        };
        for (word, status, products) in statuses(status) {
            let place = format!("{place}, {word}");
            let mut by_reason: BTreeMap<Option<Text>, Vec<VexProduct>> = BTreeMap::new();
            draft.check_length("products of one statement", products.len())?;
            draft.spend(products.len())?;
            for id in products {
                if let Some(product) = catalogue.product(id, &place, draft)? {
                    by_reason.entry(reasons.reason(id)).or_default().push(product);
                }
            }
            for (justification, products) in by_reason {
                let statement = VexStatement {
                    source: draft.source(&place),
                    vulnerability: ids.clone(),
                    status,
                    justification,
                    stated_at: time,
                    products,
                };
                draft.push(&place, statement)?;
            }
        }
    }
    Ok(())
}

/// The statuses that are there, as the document calls them and as we do.
fn statuses<'s>(
    status: &'s ProductStatus<'_>,
) -> impl Iterator<Item = (&'static str, VexStatus, &'s [Word<'s>])> {
    [
        ("first_affected", VexStatus::Affected, &status.first_affected),
        ("known_affected", VexStatus::Affected, &status.known_affected),
        ("last_affected", VexStatus::Affected, &status.last_affected),
        ("first_fixed", VexStatus::Fixed, &status.first_fixed),
        ("fixed", VexStatus::Fixed, &status.fixed),
        ("known_not_affected", VexStatus::NotAffected, &status.known_not_affected),
        ("under_investigation", VexStatus::UnderInvestigation, &status.under_investigation),
        ("unknown", VexStatus::UnderInvestigation, &status.unknown),
    ]
    .into_iter()
    .filter_map(|(word, status, products)| Some((word, status, products.as_deref()?)))
}

/// Why products have their status, by product.
#[derive(Default)]
struct Reasons<'d> {
    by_product: HashMap<&'d str, Text>,
    of_all: Option<Text>,
}

impl<'d> Reasons<'d> {
    fn of(
        vulnerability: &'d Vulnerability<'_>,
        catalogue: &Catalogue<'d>,
        draft: &mut Draft<'_>,
    ) -> Result<Self, VexError> {
        let mut reasons = Self::default();
        let flags = vulnerability.flags.iter().flatten().map(|flag| (flag, &flag.label));
        let threats = vulnerability.threats.iter().flatten();
        let threats = threats.filter(|threat| word(&threat.category) == Some("impact"));
        // A flag is put to the products first, and stays.
        for (remark, note) in flags.chain(threats.map(|threat| (threat, &threat.details))) {
            let Some(text) = note.as_ref().and_then(Note::shared) else {
                continue;
            };
            if remark.product_ids.is_none() && remark.group_ids.is_none() {
                reasons.of_all.get_or_insert(text);
                continue;
            }
            for id in remark.product_ids.iter().flatten() {
                reasons.by_product.entry(id).or_insert_with(|| text.clone());
            }
            for group in remark.group_ids.iter().flatten() {
                let members = catalogue.groups.get(&**group).copied().unwrap_or_default();
                draft.spend(members.len())?;
                for id in members {
                    reasons.by_product.entry(id).or_insert_with(|| text.clone());
                }
            }
        }
        Ok(reasons)
    }

    fn reason(&self, product: &str) -> Option<Text> {
        self.by_product.get(product).or(self.of_all.as_ref()).cloned()
    }
}

/// A product of the tree that is no pair.
#[derive(Clone, Copy)]
struct Single<'d> {
    product: &'d FullProductName<'d>,
    is_range: bool,
}

#[derive(Clone, Copy)]
enum Entry<'d> {
    Single(Single<'d>),
    /// A component within a product.
    Pair(&'d Relationship<'d>),
}

/// The products of a tree, by id.
struct Catalogue<'d> {
    entries: HashMap<&'d str, Entry<'d>>,
    groups: HashMap<&'d str, &'d [Word<'d>]>,
    /// What was looked up before, so that repeated references share their texts and warn once.
    known: HashMap<&'d str, Option<VexProduct>>,
}

impl<'d> Catalogue<'d> {
    fn of(tree: &'d ProductTree<'d>) -> Self {
        let mut entries = HashMap::new();
        for product in tree.full_product_names.iter().flatten() {
            enter(&mut entries, product, false);
        }
        branches(&mut entries, tree.branches.as_deref().unwrap_or_default());
        for pair in tree.relationships.iter().flatten() {
            if let Some(id) = pair.full_product_name.as_ref().and_then(|n| word(&n.product_id)) {
                entries.entry(id).or_insert(Entry::Pair(pair));
            }
        }
        let groups = tree
            .product_groups
            .iter()
            .flatten()
            .filter_map(|group| Some((word(&group.group_id)?, group.product_ids.as_deref()?)));
        Self { entries, groups: groups.collect(), known: HashMap::new() }
    }

    /// The product of this id; `None` if it is passed over.
    fn product(
        &mut self,
        id: &str,
        place: &str,
        draft: &mut Draft<'_>,
    ) -> Result<Option<VexProduct>, VexError> {
        if let Some(known) = self.known.get(id) {
            return Ok(known.clone());
        }
        let Some((&id, &entry)) = self.entries.get_key_value(id) else {
            let id = shortened(id, MAX_NOTE);
            draft.warn(place, format_args!("\"{id}\" is not in its product tree: passed over"));
            return Ok(None);
        };
        let (product, warnings) = self.look_up(entry);
        for warning in warnings {
            draft.warn(place, warning);
        }
        self.known.insert(id, product.clone());
        Ok(product)
    }

    fn look_up(&self, entry: Entry<'d>) -> (Option<VexProduct>, Vec<String>) {
        let (part, wholes) = match self.flattened(entry) {
            Ok(flattened) => flattened,
            Err(why) => return (None, vec![why]),
        };
        let part = component(part);
        if wholes.is_empty() || is_image_by_digest(&part) {
            let (product, warning) = product(&part, None);
            return (product, warning.into_iter().collect());
        }
        let (within, mut warnings) = packages(&[part]);
        // Of a component's product and its platform, the one that is an image can be checked.
        let wholes: Vec<_> = wholes.into_iter().map(component).collect();
        let image = wholes.iter().find(|whole| matches!(Target::of(whole), Target::Image(_)));
        let Some(whole) = image.or(wholes.first()) else {
            return (None, warnings);
        };
        let (product, warning) = product(whole, Some(&within));
        warnings.extend(warning);
        (product, warnings)
    }

    /// The component in which relationships begin, and the products that it is in.
    fn flattened(&self, entry: Entry<'d>) -> Result<(Single<'d>, Vec<Single<'d>>), String> {
        let mut wholes = Vec::new();
        let mut left = vec![entry];
        let mut part = None;
        for _ in 0..=2 * MAX_DEPTH {
            match left.pop() {
                None => break,
                Some(Entry::Single(single)) if part.is_none() => part = Some(single),
                Some(Entry::Single(single)) => wholes.push(single),
                Some(Entry::Pair(pair)) => {
                    let (inner, outer) = self.sides(pair)?;
                    // The inner side is looked at first, so that the first is the component.
                    left.push(outer);
                    left.push(inner);
                }
            }
        }
        match part {
            Some(part) if left.is_empty() => Ok((part, wholes)),
            _ => Err("a product has too many relationships: passed over".to_owned()),
        }
    }

    /// The component of a relationship and the product that it is in.
    fn sides(&self, pair: &Relationship<'_>) -> Result<(Entry<'d>, Entry<'d>), String> {
        let entry = |id| word(id).and_then(|id| self.entries.get(id)).copied();
        let sides = entry(&pair.product_reference).zip(entry(&pair.relates_to_product_reference));
        match word(&pair.category) {
            Some("default_component_of" | "optional_component_of" | "installed_on") => sides,
            _ => None,
        }
        .ok_or_else(|| {
            let name = pair.full_product_name.as_ref().and_then(|name| word(&name.product_id));
            let name = shortened(name.unwrap_or("unnamed"), MAX_NOTE);
            format!("\"{name}\" is no component within a product of the tree: passed over")
        })
    }
}

fn enter<'d>(
    entries: &mut HashMap<&'d str, Entry<'d>>,
    product: &'d FullProductName<'d>,
    is_range: bool,
) {
    if let Some(id) = word(&product.product_id) {
        entries.entry(id).or_insert(Entry::Single(Single { product, is_range }));
    }
}

/// Enters the products of branches; the parser's own limit bounds how deep these nest.
fn branches<'d>(entries: &mut HashMap<&'d str, Entry<'d>>, list: &'d [Branch<'d>]) {
    for branch in list {
        let is_range = word(&branch.category) == Some("product_version_range");
        if let Some(product) = &branch.product {
            enter(entries, product, is_range);
        }
        branches(entries, branch.branches.as_deref().unwrap_or_default());
    }
}

fn component<'d>(Single { product, is_range }: Single<'d>) -> Component<'d> {
    let id = word(&product.name).or(word(&product.product_id));
    let Some(helper) = &product.product_identification_helper else {
        return Component { id, is_range, ..Component::default() };
    };
    let mut hashes = helper.hashes.iter().flatten().flat_map(|h| h.file_hashes.iter().flatten());
    let sha256 = hashes
        .find(|hash| word(&hash.algorithm).is_some_and(|name| name.eq_ignore_ascii_case("sha256")));
    let first = helper.purls.iter().flatten().map(|purl| &**purl).next();
    Component {
        id,
        purl: word(&helper.purl).or(first),
        sha256: sha256.and_then(|hash| word(&hash.value)),
        is_range,
    }
}

fn is_image_by_digest(component: &Component<'_>) -> bool {
    matches!(Target::of(component), Target::Image(VexImage::Digest(_)))
}
