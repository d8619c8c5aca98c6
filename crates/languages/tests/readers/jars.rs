//! Archives of Java, and archives that are made to harm.

use std::io::{Cursor, Write as _};

use crate::support::{found, lines, packages};
use portcullis_languages::{Limits, Reader, read};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn jar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, content)) in entries.iter().enumerate() {
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][index % 2];
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn pom(group: &str, artifact: &str, version: &str) -> (String, Vec<u8>) {
    let text = format!("#x\nversion={version}\ngroupId={group}\nartifactId={artifact}\n");
    (format!("META-INF/maven/{group}/{artifact}/pom.properties"), text.into_bytes())
}

fn jar_of(group: &str, artifact: &str, version: &str) -> Vec<u8> {
    let (path, text) = pom(group, artifact, version);
    jar(&[("a/B.class", b"class"), (&path, &text)])
}

fn check(path: &str, content: &[u8], wanted: &[&str]) {
    assert_eq!(packages(Reader::Jar, path, content), wanted, "{path}");
}

#[test]
fn what_maven_wrote_counts_all() {
    let (one, one_text) = pom("org.a", "one", "1.0");
    let (two, two_text) = pom("org.b", "two", "2.0");
    let shaded = jar(&[
        ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\n\n"),
        (&one, &one_text),
        (&two, &two_text),
        (&format!("private/{two}"), &two_text),
        ("pom.properties", &two_text),
        ("META-INF/maven/org.c/other/pom.properties", &two_text),
        ("META-INF/maven/org.d/d/pom.properties", b"version=${project.version}\n"),
    ]);
    check(
        "lib/one-1.0.jar",
        &shaded,
        &[
            "org.a:one 1.0 in META-INF/maven/org.a/one/pom.properties",
            "org.b:two 2.0 in META-INF/maven/org.b/two/pom.properties",
            "org.b:two 2.0 in private/META-INF/maven/org.b/two/pom.properties",
        ],
    );
}

#[test]
fn what_nothing_tells_of_is_told_by_manifest_and_name() {
    let spring = jar(&[("META-INF/MANIFEST.MF", b"Implementation-Version: 5.3.24\r\n\r\n")]);
    check("x/spring-web-5.3.24.jar", &spring, &["org.springframework:spring-web 5.3.24"]);
    check("x/y.jar", &spring, &["y 5.3.24"]);
    check("x/z-1.0.jar", &jar(&[("a", b"")]), &["z 1.0"]);
    check("x/z.jar", &jar(&[]), &[]);
}

#[test]
fn archives_within_archives_are_read() {
    let inner = jar_of("org.a", "inner", "1.0");
    let middle = jar(&[("x", b""), ("WEB-INF/lib/inner.jar", &inner)]);
    let spring = jar(&[("META-INF/MANIFEST.MF", b"Implementation-Version: 6.0.1\n")]);
    let outer = jar(&[
        ("BOOT-INF/lib/spring-core-6.0.1.jar", &spring),
        ("app.WAR", &middle),
        ("empty.jar", b""),
    ]);
    let wanted = [
        "org.a:inner 1.0 in app.WAR!/WEB-INF/lib/inner.jar!/META-INF/maven/org.a/inner/pom.properties",
        "org.springframework:spring-core 6.0.1 in BOOT-INF/lib/spring-core-6.0.1.jar",
    ];
    check("app.jar", &outer, &wanted);
    // A script that starts it stands before it.
    let mut script = b"#!/bin/sh\nexec java -jar \"$0\"\n".to_vec();
    script.extend(&outer);
    check("app.jar", &script, &wanted);
}

#[test]
fn what_is_damaged_does_not_hide_the_rest() {
    let good = jar_of("org.a", "good", "1.0");
    let outer = jar(&[("bad.jar", b"no archive"), ("good.jar", &good), ("cut.jar", &good[..50])]);
    let told = found(Reader::Jar, "app.jar", &outer).unwrap();
    assert_eq!(
        lines(&told),
        ["org.a:good 1.0 in good.jar!/META-INF/maven/org.a/good/pom.properties"]
    );
    let unread: Vec<_> = told.unread.iter().map(|unread| unread.inner.as_str()).collect();
    assert_eq!(unread, ["bad.jar", "cut.jar"]);
    for damaged in [&b""[..], b"x", b"PK\x03\x04", &good[..good.len() - 1], &good[1..60]] {
        assert!(found(Reader::Jar, "a.jar", damaged).is_err());
    }
}

#[test]
fn a_false_end_in_a_comment_does_not_hide_the_table() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let (path, text) = pom("org.a", "real", "1.0");
    writer.start_file(path.as_str(), SimpleFileOptions::default()).unwrap();
    writer.write_all(&text).unwrap();
    let mut comment = b"PK\x05\x06".to_vec();
    comment.resize(40, 0);
    writer.set_raw_comment(comment.into_boxed_slice()).unwrap();
    let jar = writer.finish().unwrap().into_inner();
    check("a.jar", &jar, &["org.a:real 1.0 in META-INF/maven/org.a/real/pom.properties"]);
}

#[test]
fn large_numbers_stand_in_fields_of_their_own() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let (path, text) = pom("org.a", "large", "1.0");
    let options = SimpleFileOptions::default().large_file(true);
    writer.start_file(path.as_str(), options).unwrap();
    writer.write_all(&text).unwrap();
    let jar = writer.finish().unwrap().into_inner();
    let end = jar.len() - 22;
    let number = |at: usize| u32::from_le_bytes(*jar[at..].first_chunk().unwrap());
    let (size, offset) = (number(end + 12), number(end + 16));
    let mut large = jar[..end].to_vec();
    large.extend(b"PK\x06\x06");
    large.extend(44_u64.to_le_bytes());
    large.extend([0; 12]);
    for number in [1_u64, 1, size.into(), offset.into()] {
        large.extend(number.to_le_bytes());
    }
    large.extend(b"PK\x06\x07\0\0\0\0");
    large.extend((end as u64).to_le_bytes());
    large.extend(1_u32.to_le_bytes());
    large.extend(&jar[end..end + 8]);
    large.extend([0xff; 12]);
    large.extend([0, 0]);
    check("a.jar", &large, &["org.a:large 1.0 in META-INF/maven/org.a/large/pom.properties"]);
}

fn unread(limits: &Limits, content: &[u8]) -> Vec<String> {
    let size = content.len() as u64;
    let found = read(Reader::Jar, "a.jar", Cursor::new(content), size, limits).unwrap();
    let shown = |unread: &portcullis_languages::Unread| format!("{:?}", unread.error);
    found.unread.iter().map(shown).collect()
}

#[test]
fn bombs_end_at_their_limits() {
    let bomb = vec![0; 80 << 20];
    let outer = jar(&[("x", b""), ("bomb.jar", &bomb)]);
    assert!(outer.len() < 100_000);
    let told = unread(&Limits::default(), &outer);
    assert!(told.len() == 1 && told[0].contains("Bomb"), "{told:?}");

    let mut limits = Limits::default();
    limits.depth = 2;
    let mut deep = jar_of("org.a", "deep", "1.0");
    for _ in 0..3 {
        deep = jar(&[("x.jar", &deep)]);
    }
    let told = unread(&limits, &deep);
    assert!(told.len() == 1 && told[0].contains("Depth(2)"), "{told:?}");

    limits.entries = 3;
    let error = read(
        Reader::Jar,
        "a.jar",
        Cursor::new(jar(&[("a", b""), ("b", b""), ("c", b""), ("d", b"")])),
        1 << 20,
        &limits,
    );
    assert!(error.is_err());
    let name = format!("{}.jar", "x".repeat(2000));
    assert!(found(Reader::Jar, "a.jar", &jar(&[(&name, b"")])).is_err());
}

/// Many entries of the table that all name the same bytes of the file.
#[test]
fn entries_upon_each_other_are_paid_for() {
    let inner = jar_of("org.a", "same", "1.0");
    let names: Vec<String> = (0..2000).map(|index| format!("{index:04}.jar")).collect();
    let mut bomb = vec![0_u8; 4 << 20];
    bomb[..inner.len()].copy_from_slice(&inner);
    let first = jar(&[("x", b""), ("0000.jar", &bomb)]);
    // The entry of the table, as often as there are names.
    let table = first.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let end = first.windows(4).rposition(|window| window == b"PK\x05\x06").unwrap();
    let entry = first[table..end].to_vec();
    let mut file = first[..end].to_vec();
    for name in &names[1..] {
        let mut entry = entry.clone();
        entry[46..54].copy_from_slice(name.as_bytes());
        file.extend(entry);
    }
    let start = first.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let size = u32::try_from(file.len() - start).unwrap();
    let mut last = first[end..].to_vec();
    last[12..16].copy_from_slice(&size.to_le_bytes());
    file.extend(last);
    let told = unread(&Limits::default(), &file);
    let bombs = told.iter().filter(|error| error.contains("Bomb")).count();
    assert!(bombs > 200, "{bombs} of {}", told.len());
}
