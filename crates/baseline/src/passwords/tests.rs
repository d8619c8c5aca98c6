use super::*;

/// Words and their hashes, by crypt(3) of libxcrypt 4.4.33: `perl -e 'print crypt($word, $salt)'`.
const REAL: &[(&str, &str)] = &[
    ("password", "abJnggxhB/yWI"),
    ("", "./Una9Fi.seRo"),
    ("longer than eight", "zZb64kacvY9KA"),
    ("x", "9kQIYQxStUpI2"),
    ("password", "_J9..rasmEedsvB6g8/6"),
    ("longer than eight characters", "_/...Zz9.OA21xFwRtw2"),
    ("", "_1...abcdoj0PMidvoVc"),
    ("password", "$1$abcdefgh$G//4keteveJp0qb8z2DxG/"),
    ("", "$1$$qRPK7m23GJusamGpoGLby/"),
    ("a longer password of 40 characters......", "$1$x$0Gkb6HFW2nQkZUCn98Ow70"),
    ("seventeen letters", "$1$01234567$ecJmo.V/jpk5qUpBM0P0y/"),
    ("password", "$3$$8846f7eaee8fb117ad06bdd830b7586c"),
    ("", "$3$$31d6cfe0d16ae931b73c59d7e0c089c0"),
    ("password", "$5$saltstring$OH4IDuTlsuTYPdED1gsuiRMyTAwNlRWyA6Xr3I4/dQ5"),
    ("", "$5$a$CZ9Csdk0HaS3TQcxgDHTwM2gwOEDCViPn83i6BpFdH."),
    (
        "a longer password of 40 characters......",
        "$5$rounds=1000$0123456789abcdef$ldXTpQ3qpPL9ZkuiyScBj2Bns7u.AnP6I4QCJ79WW9C",
    ),
    ("root", "$5$rounds=1234$toolongsaltstrin$A3kx65shx.TwhRR2uyEXUkIpRpMTGsOW7r/p6yprKG1"),
    (
        "password",
        "$6$saltstring$adDbXsJjcDlq2662QPgd.tkSOVmnG9Tt3oXl4HR60SusC3AGjirnDenVZp3DGwLwqy6iYKCzannhaX9DR72nN1",
    ),
    (
        "",
        "$6$a$Z6IPkDduHdwavesVY2NFMpOHkigshxPYdhfLg0D3A7/XFQcso9RV2E8qczyJ2su.dj6RRLaTpvgwN1rZfK0I9.",
    ),
    (
        "a longer password of more than 64 characters, so that it is repeated",
        "$6$rounds=1000$0123456789abcdef$vt9Df6a6DUHK1m20y2.3yt2k9Tqq9zgH.ekYVPKxtAQrbr/jKj.jhdiXWgFnO3WlT/A.WZlWWhPkd.K4VQJgw1",
    ),
    (
        "root",
        "$6$rounds=1234$toolongsaltstrin$NUNrb3cGWcK8UQ3bOv8RW1xdR3U/e60hrN4NgXn1SP06plo4ZUDCZVnCBfrw3Jbpdbds9QVYBDpJ1rs.4AeV3.",
    ),
    ("password", "$2b$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm"),
    ("", "$2a$04$......................w74bL5gU7LSJClZClCa.Pkz14aTv/XO"),
    ("root", "$2y$05$LhayLxezLhK1LhWvKxCyLOpxF04B4ipB.KP3weBKeVtqvQI3Ap9m2"),
    (
        "01234567890123456789012345678901234567890123456789012345678901234567890123456789",
        "$2b$04$abcdefghijklmnopqrstuum2G75IXDN/xsgbNa/hCiPSKyIHQd70S",
    ),
    ("password", "$7$4/..../....SodiumChloride$kgEk4QcEnAEwCrR3jThwDKVBknBr4BHHr3ZBoEhQiK0"),
    ("", "$7$26..../....abc$jEotGHN4zyCUI70KKxIhvpB1Cd3Mn9Tm1KOmlK8BiD1"),
    ("password", "$y$j75$abcdefgh$hycRI05iyPwUdPZDaw/SJaABdj2h8B1Bgxi1Z/4Xke0"),
    ("root", "$y$j85$..g1xy01.M/8AzQv0v1.u0$57PVX7/wxtyhnp/JtNJanX.v6o576/1GxU6Pagddr73"),
];

/// The word `root` with the settings of Debian 12.
const DEBIAN: &str = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$7sns0mBDIWgdwoL7WtVeg8OpRLmM3pIF24UUv.9/Cu.";

#[test]
fn hashes_are_those_of_crypt() {
    for (word, hash) in REAL {
        let scheme = Scheme::parse(hash).unwrap_or_else(|| panic!("{hash}"));
        assert!(scheme.price() < Budget::MOST_PER_TRY, "{hash}");
        assert!(scheme.is_hash_of(word.as_bytes()), "{word}: {hash}");
        assert!(!scheme.is_hash_of(b"another"), "{hash}");
    }
}

#[test]
fn formats_are_known_from_their_beginning() {
    for (hash, wanted, is_weak) in [
        ("abJnggxhB/yWI", Format::Des, true),
        ("_J9..rasmEedsvB6g8/6", Format::BsdDes, true),
        ("$1$a$b", Format::Md5, true),
        ("$3$$8846f7eaee8fb117ad06bdd830b7586c", Format::Nt, true),
        ("$md5,rounds=904$a$b", Format::SunMd5, true),
        ("$sha1$40000$a$b", Format::Sha1, true),
        ("$2b$04$a", Format::Bcrypt, false),
        ("$5$a$b", Format::Sha256, false),
        ("$6$a$b", Format::Sha512, false),
        ("$7$a$b", Format::Scrypt, false),
        ("$y$j9T$a$b", Format::Yescrypt, false),
        ("$gy$j9T$a$b", Format::Yescrypt, false),
        ("$argon2id$v=19$a", Format::Unknown, false),
        ("*LK*", Format::Unknown, false),
        ("abJnggxhB/yW!", Format::Unknown, false),
        ("", Format::Unknown, false),
    ] {
        assert_eq!((Format::of(hash), Format::of(hash).is_weak()), (wanted, is_weak), "{hash}");
    }
}

#[test]
fn words_are_tried() {
    let with_words = |text: &str| {
        let mut words = WordList::new();
        words.add(text.as_bytes());
        words
    };
    let check = |hash: &str, account: &str, words: &str, wanted: Outcome| {
        let outcome = weak(hash, account, &with_words(words), &mut Budget::default());
        assert_eq!(outcome, wanted, "{account} {hash}");
    };
    let password = "$1$abcdefgh$G//4keteveJp0qb8z2DxG/";
    check(password, "a", "", Outcome::Weak);
    // The name, by yescrypt with the settings of Debian 12.
    check(DEBIAN, "root", "", Outcome::Weak);
    // No password at all, but hashed.
    check("$1$$qRPK7m23GJusamGpoGLby/", "a", "", Outcome::Weak);
    check("$1$01234567$ecJmo.V/jpk5qUpBM0P0y/", "a", "", Outcome::Held);
    check("$1$01234567$ecJmo.V/jpk5qUpBM0P0y/", "a", "x\nseventeen letters\n", Outcome::Weak);
    check("$argon2id$v=19$m=1,t=1,p=1$YWFh$YWFh", "a", "", Outcome::Unknown);
    check(
        "$2x$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
        "a",
        "",
        Outcome::Unknown,
    );
    check("", "", "", Outcome::Unknown);
}

#[test]
fn hostile_hashes_cost_nothing() {
    for hash in [
        "$5$rounds=999999999$a$CZ9Csdk0HaS3TQcxgDHTwM2gwOEDCViPn83i6BpFdH.",
        "$6$rounds=99999999999999999999$a$x",
        "$2b$31$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
        "$2b$62$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
        "$2b$99$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm",
        // 1 GiB, then more than there is, then as many digits as one likes.
        "$y$jFT$abcdefgh$x",
        "$y$jj5$abcdefgh$x",
        "$y$jzzzzzzzzzzzzz$abcdefgh$x",
        "$y$j953/2$abcdefgh$x",
        "$7$zzzzzzzzzzz$x",
        "$7$k.E.../....a$x",
        "$y$j/kz$abcdefgh$x",
        "$7$J6..../....SodiumChloride$x",
        "_zzzzabcdoj0PMidvoVc",
    ] {
        let mut budget = Budget::default();
        let outcome = weak(hash, "root", &WordList::new(), &mut budget);
        assert_eq!((outcome, budget.left()), (Outcome::TooCostly, Budget::DEFAULT), "{hash}");
    }
}

#[test]
fn settings_of_yescrypt_and_scrypt_never_panic() {
    // All settings of one digit that are cheap, even those that no tool writes.
    let digits = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut tried = 0;
    for n in digits {
        for r in digits {
            let (n, r) = (char::from(*n), char::from(*r));
            for hash in [format!("$y$j{n}{r}$ab$x"), format!("$7${n}{r}..../....ab$x")] {
                if let Some(scheme) = Scheme::parse(&hash)
                    && scheme.memory() < 100_000
                    && scheme.price() < Budget::MOST_PER_TRY
                {
                    tried += 1;
                    assert!(!scheme.is_hash_of(b"word"), "{hash}");
                }
            }
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn what_the_budget_does_not_pay_for_is_said() {
    let dear = "$6$rounds=20000$a$Z6IPkDduHdwavesVY2NFMpOHkigshxPYdhfLg0D3A7/XFQcso9RV2E8qczyJ2su.dj6RRLaTpvgwN1rZfK0I9.";
    let cheap = "$1$abcdefgh$G//4keteveJp0qb8z2DxG/";
    let entries = [Entry { account: "a", hash: dear }, Entry { account: "b", hash: cheap }];
    // Three tries of the dear one; the cheap one comes first in each round.
    let mut budget = Budget::new(3 * 10_000 + 5000);
    let outcomes = try_all(&entries, &WordList::new(), &mut budget);
    let of = WordList::new().count();
    let short = Outcome::Cut { tried: 3, of };
    assert_eq!(outcomes, [short, Outcome::Cut { tried: 3, of }]);
    assert!(budget.left() < 10_000);
    let summary = Summary::of(&outcomes);
    assert_eq!(summary, Summary { cut: 2, ..Summary::default() });

    let mut budget = Budget::new(5 * 10_000 + 80 * 200);
    let words = WordList::new();
    let outcomes = try_all(&entries[1..], &words, &mut budget);
    assert_eq!(outcomes, [Outcome::Weak]);
}

#[test]
fn accounts_that_can_log_in_are_listed() {
    let shadow =
        "root:$1$a$b:19000:0:99999:7:::\nbin:*:1::::::\na:!$1$a$b:1::::::\nb::1::::::\nc:!!:\n";
    assert_eq!(accounts(shadow), [Entry { account: "root", hash: "$1$a$b" }]);
}
