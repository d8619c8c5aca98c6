use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_types::{Severity, Timestamp, with_causes};
use proptest::prelude::*;

use super::*;

const HEAD: &str =
    "#model_version:v2025.03.14,score_date:2026-11-20T00:00:00+0000\ncve,epss,percentile\n";

const KEV: &str = r#"{
  "title": "Catalogue", "catalogVersion": "2026.11.19", "dateReleased": "2026-11-19T15:00:04.1Z", "count": 2,
  "vulnerabilities": [
    {"cveID": "CVE-2021-44228", "vendorProject": "Apache", "dateAdded": "2021-12-10", "knownRansomwareCampaignUse": "Known", "cwes": ["CWE-20"]},
    {"cveID": "CVE-2014-0160", "dateAdded": "2022-05-04"}
  ]
}"#;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn epss(text: impl AsRef<[u8]>) -> Result<Epss, FeedError> {
    parse_epss(text.as_ref(), Path::new("epss.csv"), &FeedLimits::default())
}

fn kev(text: impl AsRef<[u8]>) -> Result<Kev, FeedError> {
    parse_kev(text.as_ref(), Path::new("kev.json"), &FeedLimits::default())
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn epss_is_read_plain_and_packed() {
    let text =
        format!("{HEAD}CVE-2024-3094,0.84,0.99\nCVE-1999-0001,1.1e-3,0.5\r\nCVE-2014-0160,1,1");
    for bytes in [text.clone().into_bytes(), packed(&text)] {
        let epss = epss(bytes).unwrap();
        assert_eq!((epss.len(), epss.date()), (3, at("2026-11-20T00:00:00Z")));
        for (cve, wanted) in [
            ("CVE-2024-3094", Some(0.84)),
            ("cve-2014-0160", Some(1.0)),
            ("CVE-1999-0001", Some(0.0011)),
            ("CVE-2024-3095", None),
            ("GHSA-35jh-r3h4-6jhm", None),
            ("", None),
        ] {
            assert_eq!(epss.get(cve), wanted, "{cve}");
        }
    }
}

#[test]
fn the_date_has_several_spellings() {
    for date in [
        "2026-11-20",
        "2026-11-20T00:00:00Z",
        "2026-11-20T00:00:00+0000",
        "2026-11-19T19:00:00-05:00",
    ] {
        let text = format!(
            "#model_version:v1,score_date:{date}\ncve,epss,percentile\nCVE-2024-3094,0,0\n"
        );
        assert_eq!(epss(text).unwrap().date(), at("2026-11-20T00:00:00Z"), "{date}");
    }
}

#[test]
fn a_damaged_row_is_an_error_with_its_place() {
    for (rows, wanted) in [
        ("", "epss.csv lists no CVE"),
        ("CVE-2024-3094,0.84,0.99\n\n", "epss.csv, line 4, column 1: \"\" is not a CVE id"),
        ("CVE-24-1,0.8,0.9\n", "epss.csv, line 3, column 1: \"CVE-24-1\" is not a CVE id"),
        ("CVE-2024-3094\n", "epss.csv, line 3, column 14: no epss"),
        ("CVE-2024-3094,0.5\n", "epss.csv, line 3, column 18: no percentile"),
        (
            "CVE-2024-3094,1.5,0\n",
            "epss.csv, line 3, column 15: \"1.5\" is not a number from 0 to 1",
        ),
        ("CVE-2024-3094,NaN,0\n", "epss.csv, line 3, column 15: \"NaN\" is not"),
        ("CVE-2024-3094,-0.1,0\n", "epss.csv, line 3, column 15: \"-0.1\" is not"),
        ("CVE-2024-3094,0.5,\u{1b}\n", "epss.csv, line 3, column 19: \"\\u{1b}\" is not"),
        (
            "CVE-2024-3094,0.5,0\nCVE-2024-0001,0,0\ncve-2024-3094,0.5,0\n",
            "epss.csv, line 5, column 1: the CVE stands in line 3 too",
        ),
    ] {
        let error = epss(format!("{HEAD}{rows}")).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
    }
    for (text, wanted) in [
        (&b""[..], "epss.csv, line 1, column 1: there is no \"#model_version"),
        (b"cve,epss,percentile\n", "epss.csv, line 1, column 1: there is no \"#model_version"),
        (b"#model_version:v1\n", "epss.csv, line 1, column 1: there is no \"#model_version"),
        (b"#score_date:today\n", "epss.csv, line 1, column 1: score_date is not a date"),
        (b"#score_date:2026-11-20\nid,epss\n", "epss.csv, line 2, column 1: the header is not"),
        (b"#\xff", "epss.csv, line 1, column 2: this is not UTF-8"),
        (b"\x1f\x8b\x08nonsense", "cannot read epss.csv"),
    ] {
        let error = epss(text).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
    }
    let long = epss(format!("{HEAD}{}", "a".repeat(10_000))).unwrap_err().to_string();
    assert!(long.contains("line 3, column 1: a line of more than 1024 bytes"), "{long}");
}

#[test]
fn epss_is_bounded() {
    let file = Path::new("f");
    let rows = format!("{HEAD}CVE-2024-0001,0,0\nCVE-2024-0002,0,0\n");
    let limits = FeedLimits { bytes: 1 << 20, rows: 1 };
    let error = parse_epss(rows.as_bytes(), file, &limits).unwrap_err().to_string();
    assert!(error.contains("line 4, column 1: more than 1 rows"), "{error}");
    // A small archive of a large text.
    let bomb = packed(&format!("{HEAD}{}", "CVE-2024-0001,0,0\n".repeat(100_000)));
    assert!(bomb.len() < 20_000);
    let limits = FeedLimits { bytes: 20_000, rows: usize::MAX };
    let error = parse_epss(&bomb[..], file, &limits).unwrap_err();
    assert!(matches!(error, FeedError::TooLarge { .. }), "{error}");
    let cut = packed(&rows);
    let error = parse_epss(&cut[..cut.len() - 9], file, &limits).unwrap_err();
    assert!(matches!(error, FeedError::Unreadable { .. }), "{}", with_causes(&error));
}

#[test]
fn kev_is_read() {
    let kev = kev(KEV).unwrap();
    assert_eq!((kev.len(), kev.version()), (2, Some("2026.11.19")));
    assert_eq!(kev.date(), at("2026-11-19T15:00:04.1Z"));
    assert_eq!(kev.contains("cve-2021-44228"), Some(at("2021-12-10T00:00:00Z")));
    assert_eq!(kev.contains("CVE-2014-0160"), Some(at("2022-05-04T00:00:00Z")));
    assert_eq!(kev.contains("CVE-2014-0161"), None);
}

#[test]
fn a_damaged_catalogue_is_an_error_with_its_place() {
    for (from, to, wanted) in [
        (
            "CVE-2014-0160",
            "CVE-2014-016",
            "kev.json, line 5, column 29: \"CVE-2014-016\" is not a CVE id",
        ),
        ("2022-05-04", "soon", "kev.json, line 5, column 51: \"soon\" is not a date"),
        ("CVE-2014-0160", "CVE-2021-44228", "kev.json lists CVE-2021-44228 twice"),
        ("\"count\": 2", "\"count\": 3", "kev.json lists 2 CVEs and counts 3"),
        ("dateReleased", "released", "kev.json has no dateReleased"),
        ("\"vulnerabilities\"", "\"other\"", "kev.json lists no CVE"),
        ("cveID", "cve", "kev.json, line 4, column "),
        ("]\n}", "", "kev.json, line "),
    ] {
        let error = kev(KEV.replace(from, to)).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "wanted {wanted}\n   got {error}");
    }
    let limits = FeedLimits { rows: 1, ..FeedLimits::default() };
    let error = parse_kev(KEV.as_bytes(), Path::new("f"), &limits).unwrap_err().to_string();
    assert!(error.contains("more than 1"), "{error}");
    let limits = FeedLimits { bytes: 100, ..FeedLimits::default() };
    let error = parse_kev(KEV.as_bytes(), Path::new("f"), &limits).unwrap_err();
    assert!(matches!(error, FeedError::TooLarge { .. }), "{error}");
}

#[test]
fn a_folder_holds_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let none = Feeds::open(&path("missing")).unwrap();
    assert!(none.epss.is_none() && none.kev.is_none());
    fs::write(path("kev.json"), KEV).unwrap();
    let feeds = Feeds::open(folder.path()).unwrap();
    assert!(feeds.epss.is_none() && feeds.kev.is_some());
    let text = |day: u8, value: &str| {
        format!(
            "#model_version:v1,score_date:2026-11-{day}\ncve,epss,percentile\nCVE-2024-3094,{value},0\n"
        )
    };
    fs::write(path("epss.csv.gz"), packed(&text(20, "0.2"))).unwrap();
    for (day, value, wanted) in [(19, "0.1", 0.2), (21, "0.3", 0.3)] {
        fs::write(path("epss.csv"), text(day, value)).unwrap();
        let feeds = Feeds::open(folder.path()).unwrap();
        assert_eq!(feeds.epss.unwrap().get("CVE-2024-3094"), Some(wanted), "the later one counts");
    }
    fs::write(path("kev.json"), "{}").unwrap();
    let error = Feeds::open(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with(&path("kev.json").display().to_string()), "{error}");
    fs::remove_file(path("kev.json")).unwrap();
    fs::create_dir(path("kev.json")).unwrap();
    let error = Feeds::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder, not a file"), "{error}");
}

#[test]
fn a_finding_is_annotated_by_any_of_its_ids() {
    let text = format!("{HEAD}CVE-2021-44228,0.97,1\nCVE-2014-0160,0.9,1\nCVE-2024-0001,0.1,0\n");
    let both = Feeds { epss: Some(epss(text).unwrap()), kev: Some(kev(KEV).unwrap()) };
    let vulnerability = |id: &str| Finding::new(Class::Vulnerability, id, Severity::High, "x");
    let check = |feeds: &Feeds, mut finding: Finding, changed, wanted: (Option<f32>, bool)| {
        assert_eq!(feeds.annotate(&mut finding), changed, "{finding}");
        assert_eq!((finding.epss, finding.kev), wanted, "{finding}");
        assert!(!feeds.annotate(&mut finding), "a second time changes nothing");
    };
    check(&both, vulnerability("CVE-2021-44228"), true, (Some(0.97), true));
    check(&both, vulnerability("CVE-2024-0001"), true, (Some(0.1), false));
    check(&both, vulnerability("CVE-2024-0002"), false, (None, false));
    let aliases = vec!["CVE-2014-0160".into(), "CVE-2024-0001".into()];
    let alias = Finding { aliases: aliases.clone(), ..vulnerability("GHSA-x") };
    check(&both, alias.clone(), true, (Some(0.9), true));
    check(&Feeds::default(), alias, false, (None, false));
    let told = Finding { epss: Some(0.5), kev: true, ..vulnerability("CVE-2024-0001") };
    check(&both, told.clone(), true, (Some(0.1), true));
    check(&Feeds { epss: None, ..both.clone() }, told, false, (Some(0.5), true));
    let secret =
        Finding { aliases, ..Finding::new(Class::Secret, "CVE-2014-0160", Severity::Low, "x") };
    check(&both, secret, false, (None, false));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (epss(&bytes), kev(&bytes));
    }

    #[test]
    fn a_changed_feed_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = format!("{HEAD}CVE-2024-3094,0.84,0.99\nCVE-1999-0001,0.1,0.5\n");
        for whole in [text.clone().into_bytes(), packed(&text), KEV.as_bytes().to_vec()] {
            let mut bytes = whole.clone();
            bytes[at.index(whole.len())] = byte;
            let _ = (epss(&bytes), kev(&bytes));
            bytes.truncate(cut.index(whole.len()));
            let _ = (epss(&bytes), kev(&bytes));
        }
    }

    /// Every row that was written is found, and no other.
    #[test]
    fn all_rows_are_found(
        rows in prop::collection::btree_map((1999_u32..2030, 1_u32..99_999), 0_u32..=1000, 1..60),
    ) {
        let mut text = HEAD.to_owned();
        for ((year, number), value) in rows.iter().rev() {
            text += &format!("CVE-{year}-{number:04},{},0.5\n", f64::from(*value) / 1000.0);
        }
        let epss = epss(text).unwrap();
        prop_assert_eq!(epss.len(), rows.len());
        for ((year, number), value) in &rows {
            let wanted = (f64::from(*value) / 1000.0) as f32;
            prop_assert_eq!(epss.get(&format!("CVE-{year}-{number:04}")), Some(wanted));
            let next = (*year, number + 1);
            let other = epss.get(&format!("CVE-{year}-{:04}", number + 1));
            prop_assert_eq!(other.is_some(), rows.contains_key(&next));
        }
    }
}
