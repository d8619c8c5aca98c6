//! Whether a version is affected (OSV schema, "Evaluation").

use std::cmp::Ordering;

use portcullis_versions::{Scheme, VersionError};

use crate::record::{Affected, Event, Range};

/// A version that is affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The first version behind it that is not, if there is one.
    pub fixed: Option<&'a str>,
}

impl Affected {
    /// Puts the events of each range into the order of their versions, in which [`Self::hit`] needs
    /// them.
    ///
    /// # Errors
    /// [`VersionError`]: a version of the record has no order.
    pub fn sort(&mut self, scheme: Scheme) -> Result<(), VersionError> {
        self.ranges.iter_mut().try_for_each(|range| range.sort(scheme))
    }

    /// Whether this version is one of those that are affected: listed, or in a range. The ranges
    /// must be in order ([`Self::sort`]).
    ///
    /// # Errors
    /// [`VersionError`]: the version has no order in this scheme.
    pub fn hit(&self, scheme: Scheme, version: &str) -> Result<Option<Hit<'_>>, VersionError> {
        let mut hit = None;
        for range in &self.ranges {
            if let Some(found) = range.hit(scheme, version)? {
                // A range that says where it ends says more than one that does not.
                if found.fixed.is_some() {
                    return Ok(Some(found));
                }
                hit.get_or_insert(found);
            }
        }
        if hit.is_some() {
            return Ok(hit);
        }
        let is_listed = self.versions.iter().any(|listed| {
            listed == version || scheme.compare(listed, version) == Ok(Ordering::Equal)
        });
        Ok(is_listed.then_some(Hit { fixed: None }))
    }
}

impl Event {
    fn version(&self) -> &str {
        match self {
            Self::Introduced(version)
            | Self::Fixed(version)
            | Self::LastAffected(version)
            | Self::Limit(version) => version,
        }
    }

    /// Before all versions, whatever the ecosystem makes of the text.
    fn is_beginning(&self) -> bool {
        matches!(self, Self::Introduced(version) if version == "0")
    }

    /// Behind all versions.
    fn is_endless(&self) -> bool {
        matches!(self, Self::Limit(version) if version == "*")
    }

    /// The order of two events whose versions have one.
    fn compare(&self, other: &Self, scheme: Scheme) -> Ordering {
        let place = |event: &Self| match (event.is_beginning(), event.is_endless()) {
            (true, _) => 0,
            (_, true) => 2,
            _ => 1,
        };
        let versions =
            || scheme.compare(self.version(), other.version()).unwrap_or(Ordering::Equal);
        place(self).cmp(&place(other)).then_with(|| match place(self) {
            1 => versions(),
            _ => Ordering::Equal,
        })
    }
}

impl Range {
    /// Events of one version stay as the record has them.
    fn sort(&mut self, scheme: Scheme) -> Result<(), VersionError> {
        let versions = self.events.iter().filter(|e| !e.is_beginning() && !e.is_endless());
        for version in versions.map(Event::version) {
            scheme.compare(version, version)?;
        }
        // Nothing is equal for want of an order now.
        self.events.sort_by(|a, b| a.compare(b, scheme));
        Ok(())
    }

    fn hit(&self, scheme: Scheme, version: &str) -> Result<Option<Hit<'_>>, VersionError> {
        let mut is_affected = false;
        let mut is_within = None;
        let mut fixed = None;
        for event in &self.events {
            let order = match (event.is_beginning(), event.is_endless()) {
                (true, _) => Ordering::Greater,
                (_, true) => Ordering::Less,
                _ => scheme.compare(version, event.version())?,
            };
            match event {
                Event::Introduced(_) if order.is_ge() => is_affected = true,
                Event::Fixed(_) if order.is_ge() => is_affected = false,
                Event::LastAffected(_) if order.is_gt() => is_affected = false,
                Event::Limit(_) => is_within = Some(is_within.unwrap_or(false) || order.is_lt()),
                // The first one behind the version.
                Event::Fixed(first) => {
                    fixed.get_or_insert(first.as_str());
                }
                Event::Introduced(_) | Event::LastAffected(_) => {}
            }
        }
        Ok((is_affected && is_within.unwrap_or(true)).then_some(Hit { fixed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Package;

    fn affected(events: &str, versions: &[&str]) -> Affected {
        let event = |word: &str| {
            let (kind, version) = word.split_once('=').unwrap();
            let version = version.to_owned();
            match kind {
                "introduced" => Event::Introduced(version),
                "fixed" => Event::Fixed(version),
                "last" => Event::LastAffected(version),
                _ => Event::Limit(version),
            }
        };
        let ranges = events
            .split('|')
            .filter(|range| !range.trim().is_empty())
            .map(|range| Range { events: range.split_whitespace().map(event).collect() });
        let mut affected = Affected {
            package: Package::default(),
            ranges: ranges.collect(),
            versions: versions.iter().map(ToString::to_string).collect(),
            severity: Vec::new(),
            rating: None,
        };
        affected.sort(Scheme::SemVer).unwrap();
        affected
    }

    #[test]
    fn a_version_is_between_events() {
        for (events, version, wanted) in [
            ("introduced=0 fixed=1.2.0", "0.0.0-alpha", Some(Some("1.2.0"))),
            ("introduced=0 fixed=1.2.0", "1.2.0-rc.1", Some(Some("1.2.0"))),
            ("introduced=0 fixed=1.2.0", "1.2.0", None),
            ("introduced=0", "99.0.0", Some(None)),
            ("introduced=1.0.0", "0.9.0", None),
            // In any order of the record.
            ("fixed=1.2.0 introduced=2.0.0 introduced=0 fixed=2.1.0", "1.3.0", None),
            ("fixed=1.2.0 introduced=2.0.0 introduced=0 fixed=2.1.0", "2.0.0", Some(Some("2.1.0"))),
            ("fixed=1.2.0 introduced=2.0.0 introduced=0 fixed=2.1.0", "1.0.0", Some(Some("1.2.0"))),
            ("introduced=0 last=1.2.0", "1.2.0", Some(None)),
            ("introduced=0 last=1.2.0", "1.2.1", None),
            // Two fixes of one introduction: the first counts.
            ("introduced=0 fixed=1.2.0 fixed=1.1.0", "1.1.5", None),
            // One that ends where it begins affects nothing; one that begins where it ends goes on.
            ("introduced=1.0.0 fixed=1.0.0", "1.0.0", None),
            ("introduced=0 fixed=1.0.0 introduced=1.0.0", "1.0.0", Some(None)),
            ("introduced=0 limit=2.0.0", "1.0.0", Some(None)),
            ("introduced=0 limit=2.0.0", "2.0.0", None),
            ("introduced=0 limit=*", "2.0.0", Some(None)),
            ("introduced=0 limit=1.0.0 limit=3.0.0", "2.0.0", Some(None)),
            // A range that says where it ends, behind one that does not.
            ("introduced=0 | introduced=0 fixed=3.0.0", "2.0.0", Some(Some("3.0.0"))),
            (
                "introduced=0 fixed=1.0.0 | introduced=2.0.0 fixed=2.5.0",
                "2.0.0",
                Some(Some("2.5.0")),
            ),
            ("", "1.0.0", None),
        ] {
            let affected = affected(events, &[]);
            let hit = affected.hit(Scheme::SemVer, version).unwrap().map(|hit| hit.fixed);
            assert_eq!(hit, wanted, "{events}: {version}");
        }
    }

    #[test]
    fn a_listed_version_is_affected() {
        let listed = affected("introduced=5.0.0", &["1.0.0", "1.2"]);
        for (version, wanted) in
            [("1.0.0", true), ("1.2.0", true), ("1.1.0", false), ("5.1.0", true)]
        {
            assert_eq!(listed.hit(Scheme::SemVer, version).unwrap().is_some(), wanted, "{version}");
        }
    }

    #[test]
    fn what_has_no_order_is_an_error() {
        let mut range = affected("", &[]);
        range.ranges =
            vec![Range { events: vec![Event::Fixed("x:1".into()), Event::Fixed("1".into())] }];
        assert!(range.sort(Scheme::Debian).is_err());
        let fine = affected("introduced=0 fixed=1", &[]);
        assert!(fine.hit(Scheme::Debian, "x:1").is_err());
    }
}
