//! OpenVEX 0.0 to 0.2 (openvex/spec `OPENVEX-SPEC.md`).
//!
//! Until 0.0.1, products and vulnerabilities are texts, and a statement has subcomponents; since
//! 0.2, they are objects, and products have them. A statement without a time has its document's
//! ("Inheritance Flow").

use portcullis_types::{Text, VexStatement, VexStatus};
use serde::Deserialize;

use super::json::{Either, Note, Word, word};
use super::product::{Component, packages, product};
use super::{Draft, VexError};

#[derive(Debug, Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow)]
    timestamp: Option<Word<'a>>,
    #[serde(borrow)]
    last_updated: Option<Word<'a>>,
    #[serde(borrow)]
    statements: Option<Vec<Statement<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Statement<'a> {
    #[serde(borrow)]
    vulnerability: Option<Either<'a, Vulnerability<'a>>>,
    #[serde(borrow)]
    products: Option<Vec<Either<'a, Product<'a>>>>,
    #[serde(borrow)]
    subcomponents: Option<Vec<Either<'a, Product<'a>>>>,
    #[serde(borrow)]
    status: Option<Word<'a>>,
    justification: Option<Note>,
    impact_statement: Option<Note>,
    #[serde(borrow)]
    timestamp: Option<Word<'a>>,
    #[serde(borrow)]
    last_updated: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct Vulnerability<'a> {
    #[serde(borrow, rename = "@id")]
    id: Option<Word<'a>>,
    #[serde(borrow)]
    name: Option<Word<'a>>,
    #[serde(borrow)]
    aliases: Option<Vec<Word<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Product<'a> {
    #[serde(borrow, rename = "@id")]
    id: Option<Word<'a>>,
    #[serde(borrow)]
    identifiers: Option<Identifiers<'a>>,
    #[serde(borrow)]
    hashes: Option<Hashes<'a>>,
    #[serde(borrow)]
    subcomponents: Option<Vec<Either<'a, Product<'a>>>>,
}

#[derive(Debug, Deserialize)]
struct Identifiers<'a> {
    #[serde(borrow)]
    purl: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct Hashes<'a> {
    #[serde(borrow, rename = "sha-256")]
    sha256: Option<Word<'a>>,
}

/// Takes the statements of a document over.
pub(super) fn read(document: Document<'_>, draft: &mut Draft<'_>) -> Result<(), VexError> {
    let time = word(&document.last_updated).or(word(&document.timestamp));
    let statements = document.statements.unwrap_or_default();
    if statements.is_empty() {
        draft.warn("document", "it has no statements");
    }
    for (index, statement) in statements.into_iter().enumerate() {
        let place = format!("statement {}", index + 1);
        take(statement, &place, time, draft)?;
    }
    Ok(())
}

fn take(
    statement: Statement<'_>,
    place: &str,
    time: Option<&str>,
    draft: &mut Draft<'_>,
) -> Result<(), VexError> {
    let vulnerability = draft.ids(ids(statement.vulnerability.as_ref()).into_iter())?;
    if vulnerability.is_empty() {
        draft.warn(place, "it names no vulnerability: passed over");
        return Ok(());
    }
    let status: VexStatus = match word(&statement.status).unwrap_or("none").parse() {
        Ok(status) => status,
        Err(error) => {
            draft.warn(place, format_args!("{error}: passed over"));
            return Ok(());
        }
    };
    let time = word(&statement.last_updated).or(word(&statement.timestamp)).or(time);
    let of_all = statement.subcomponents.filter(|parts| !parts.is_empty());
    let of_all = of_all.map(|parts| within(&parts, place, draft)).transpose()?;
    let wholes = statement.products.unwrap_or_default();
    draft.check_length("products of one statement", wholes.len())?;
    let mut products = Vec::new();
    for whole in &wholes {
        let own = match whole {
            Either::Object(product) => product.subcomponents.as_deref().unwrap_or_default(),
            Either::Text(_) => &[],
        };
        let own = (!own.is_empty()).then(|| within(own, place, draft)).transpose()?;
        let within = own.as_deref().or(of_all.as_deref());
        draft.spend(1 + within.map_or(0, <[Text]>::len))?;
        let (product, warning) = product(&component(whole), within);
        if let Some(warning) = warning {
            draft.warn(place, warning);
        }
        products.extend(product);
    }
    let reason = statement.justification.or(statement.impact_statement);
    let reason = reason.as_ref().and_then(Note::shared);
    let statement = VexStatement {
        source: draft.source(place),
        vulnerability,
        status,
        justification: reason,
        stated_at: draft.time(place, time),
        products,
    };
    draft.push(place, statement)
}

/// The packages that subcomponents are.
fn within(
    parts: &[Either<'_, Product<'_>>],
    place: &str,
    draft: &mut Draft<'_>,
) -> Result<Vec<Text>, VexError> {
    draft.check_length("subcomponents of one product", parts.len())?;
    let parts: Vec<_> = parts.iter().map(component).collect();
    let (packages, warnings) = packages(&parts);
    for warning in warnings {
        draft.warn(place, warning);
    }
    Ok(packages)
}

/// The name and the aliases. Some tools leave the name out and give an address that ends with it.
fn ids<'v>(vulnerability: Option<&'v Either<'_, Vulnerability<'_>>>) -> Vec<&'v str> {
    let (name, aliases) = match vulnerability {
        None => (None, &[][..]),
        Some(Either::Text(name)) => (Some(&**name), &[][..]),
        Some(Either::Object(object)) => {
            let last = word(&object.id).and_then(|id| id.rsplit('/').next());
            (word(&object.name).or(last), object.aliases.as_deref().unwrap_or_default())
        }
    };
    name.into_iter().chain(aliases.iter().map(|alias| &**alias)).collect()
}

fn component<'c>(product: &'c Either<'_, Product<'_>>) -> Component<'c> {
    match product {
        Either::Text(id) => Component { id: Some(id), ..Component::default() },
        Either::Object(product) => Component {
            id: word(&product.id),
            purl: product.identifiers.as_ref().and_then(|i| word(&i.purl)),
            sha256: product.hashes.as_ref().and_then(|h| word(&h.sha256)),
            is_range: false,
        },
    }
}
