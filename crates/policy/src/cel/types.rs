//! Static types, and what the variables have.

use std::fmt;

use super::value::{List, Map, Value};

/// The type of an expression. There is no `dyn`: everything an expression can reach has a type
/// (langdef "Gradual Type Checking").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Of the elements of `[]`: there is none, so it fits everywhere.
    Nothing,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Object(Variable),
}

/// The variables whose fields can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Finding,
    Image,
    Request,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Aliases,
    Class,
    Severity,
    Package,
    Version,
    FixedVersion,
    Fixable,
    Path,
    Cvss,
    Epss,
    Kev,
    Published,
    Fixed,
    FirstSeen,
    Source,
    Digest,
    ManifestDigest,
    ManifestDigests,
    References,
    Created,
    Labels,
    User,
    Namespace,
    Pod,
    PodLabels,
    Container,
    Engine,
    Node,
    Kind,
}

/// What a field holds, as [`Type`] but without boxes, so that the table is a constant.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Text,
    Texts,
    TextByText,
    Number,
    Flag,
    Time,
}

const FIELDS: [(Variable, &str, Field, Holds); 30] = {
    use Holds::{Flag, Number, Text, TextByText, Texts, Time};
    use Variable::{Finding, Image, Request};
    [
        (Finding, "id", Field::Id, Text),
        (Finding, "aliases", Field::Aliases, Texts),
        (Finding, "class", Field::Class, Text),
        (Finding, "severity", Field::Severity, Text),
        (Finding, "package", Field::Package, Text),
        (Finding, "version", Field::Version, Text),
        (Finding, "fixedVersion", Field::FixedVersion, Text),
        (Finding, "fixable", Field::Fixable, Flag),
        (Finding, "path", Field::Path, Text),
        (Finding, "cvss", Field::Cvss, Number),
        (Finding, "epss", Field::Epss, Number),
        (Finding, "kev", Field::Kev, Flag),
        (Finding, "published", Field::Published, Time),
        (Finding, "fixed", Field::Fixed, Time),
        (Finding, "firstSeen", Field::FirstSeen, Time),
        (Finding, "source", Field::Source, Text),
        (Image, "digest", Field::Digest, Text),
        (Image, "manifestDigest", Field::ManifestDigest, Text),
        (Image, "manifestDigests", Field::ManifestDigests, Texts),
        (Image, "references", Field::References, Texts),
        (Image, "created", Field::Created, Time),
        (Image, "labels", Field::Labels, TextByText),
        (Image, "user", Field::User, Text),
        (Request, "namespace", Field::Namespace, Text),
        (Request, "pod", Field::Pod, Text),
        (Request, "podLabels", Field::PodLabels, TextByText),
        (Request, "container", Field::Container, Text),
        (Request, "engine", Field::Engine, Text),
        (Request, "node", Field::Node, Text),
        (Request, "kind", Field::Kind, Text),
    ]
};

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Finding, Self::Image, Self::Request].into_iter().find(|v| v.as_str() == name)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Image => "image",
            Self::Request => "request",
        }
    }

    pub(super) fn field(self, name: &str) -> Option<Field> {
        FIELDS.iter().find(|(v, n, ..)| *v == self && *n == name).map(|(_, _, field, _)| *field)
    }

    /// `finding has id, class, ...`
    pub(super) fn fields(self) -> String {
        let names: Vec<&str> =
            FIELDS.iter().filter(|(v, ..)| *v == self).map(|(_, name, ..)| *name).collect();
        format!("{} has {}", self.as_str(), names.join(", "))
    }
}

impl Field {
    fn row(self) -> &'static (Variable, &'static str, Self, Holds) {
        // The table has the variants in their order; a test compares them.
        &FIELDS[self as usize]
    }

    pub(super) fn variable(self) -> Variable {
        self.row().0
    }

    pub(super) fn name(self) -> &'static str {
        self.row().1
    }

    pub(super) fn holds(self) -> Type {
        match self.row().3 {
            Holds::Text => Type::String,
            Holds::Texts => Type::List(Box::new(Type::String)),
            Holds::TextByText => Type::Map(Box::new(Type::String), Box::new(Type::String)),
            Holds::Number => Type::Double,
            Holds::Flag => Type::Bool,
            Holds::Time => Type::Timestamp,
        }
    }
}

impl Type {
    /// The type that both fit: they are equal, but for what empty lists and maps leave open.
    pub(super) fn join(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Nothing, known) | (known, Self::Nothing) => Some(known.clone()),
            (Self::List(a), Self::List(b)) => Some(Self::List(Box::new(a.join(b)?))),
            (Self::Map(a, x), Self::Map(b, y)) => {
                Some(Self::Map(Box::new(a.join(b)?), Box::new(x.join(y)?)))
            }
            _ => (self == other).then(|| self.clone()),
        }
    }

    pub(super) fn fits(&self, other: &Self) -> bool {
        self.join(other).is_some()
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double | Self::Nothing)
    }

    /// Whether maps have such keys (langdef "Aggregate Values").
    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Nothing | Self::Bool | Self::Int | Self::Uint | Self::String)
    }

    /// The type of a literal.
    pub(super) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int,
            Value::Uint(_) => Self::Uint,
            Value::Double(_) => Self::Double,
            Value::String(_) => Self::String,
            Value::Bytes(_) => Self::Bytes,
            Value::Timestamp(_) => Self::Timestamp,
            Value::Duration(_) => Self::Duration,
            // Literals are none of these; what they would hold is asked of their nodes.
            Value::List(List::Texts(_) | List::Values(_)) => Self::List(Box::new(Self::Nothing)),
            Value::Map(Map::Texts(_) | Map::Entries(_)) => {
                Self::Map(Box::new(Self::Nothing), Box::new(Self::Nothing))
            }
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(variable) => f.write_str(variable.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_finds_its_own_row() {
        for (index, (variable, name, field, _)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, index, "{name}");
            assert_eq!(variable.field(name), Some(*field));
            assert_eq!((field.variable(), field.name()), (*variable, *name));
        }
    }
}
