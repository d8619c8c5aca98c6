//! Each rule finds its secret, and neither a placeholder nor a near miss.
//!
//! Secrets are made here, at random and from parts, so that no scanner of repositories stumbles over
//! them. The private keys in `fixtures/keys.txt` were made for it by OpenSSL 3.0, ssh-keygen 9.2,
//! GnuPG 2.2 and puttygen 0.78; their marks are disguised.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::text::{base62, crc32};
use crate::{Finder, MAX_PER_RULE, RULES, Secret};

const KEYS: &str = include_str!("../fixtures/keys.txt");

/// A real key or certificate.
fn key(name: &str) -> String {
    let (_, rest) = KEYS.split_once(&format!("## {name}\n")).expect("there is such a fixture");
    let key = rest.split("## ").next().expect("a first part");
    key.replace("@@@@@", "-----").replace("PuTTY@User@Key@File", "PuTTY-User-Key-File")
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn encode_url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

const COMMANDS: &[&str] = &[
    "d", "h", "u", "l", "32", "62", "64", "url", "crc", "bech32", "jwt", "b64", "key", "line-key",
    "b64-key", "uuid",
];

/// Random characters of a set; with a fill, that character only.
struct Maker {
    state: u64,
    fill: Option<char>,
}

impl Maker {
    fn next(&mut self, below: usize) -> usize {
        // Knuth's MMIX generator; the high bits are good enough here.
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.state >> 33) % below as u64) as usize
    }

    /// Writes out `{set:count}`, `{crc}`, `{bech32}`, `{jwt:…}`, `{b64:…}`, `{key:…}`.
    fn write(&mut self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('{') {
            text += before;
            let (what, after) = behind.split_once('}').unwrap_or((behind, ""));
            let (set, argument) = what.split_once(':').unwrap_or((what, ""));
            if !COMMANDS.contains(&set) {
                // A brace of JSON or of a placeholder.
                text.push('{');
                rest = behind;
                continue;
            }
            rest = after;
            let alphabet = match set {
                "d" => "0123456789",
                "h" => "0123456789abcdef",
                "u" => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                "l" => "0123456789abcdefghijklmnopqrstuvwxyz",
                "32" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                "62" => BASE62,
                "64" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                "url" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                _ => "",
            };
            match set {
                "crc" => text += &base62_of(crc32(&text.as_bytes()[text.len() - 30..])),
                "bech32" => text += &self.bech32(),
                "jwt" => text += &self.jwt(argument),
                "b64" => {
                    let inner = self.write(&argument.replace('[', "{").replace(']', "}"));
                    text += &encode(&inner);
                }
                "key" => text += &key(argument),
                "line-key" => text += &key(argument).trim().replace('\n', "\\n"),
                "b64-key" => text += &encode(&key(argument)),
                "uuid" => text += &self.write("{h:8}-{h:4}-4{h:3}-{h:4}-{h:12}"),
                _ => {
                    for _ in 0..argument.parse().expect("a count") {
                        let index = self.next(alphabet.len());
                        text.push(self.fill.unwrap_or(char::from(alphabet.as_bytes()[index])));
                    }
                }
            }
        }
        text + rest
    }

    fn jwt(&mut self, claims: &str) -> String {
        let header = encode_url(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = encode_url(&format!("{{{}}}", claims.replace('\'', "\"")));
        format!("{header}.{claims}.{}", self.write("{url:43}"))
    }

    /// An age key for random bytes; with a fill, one whose checksum is wrong.
    fn bech32(&mut self) -> String {
        const DIGITS: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
        let body: String = (0..52).map(|_| char::from(DIGITS.as_bytes()[self.next(32)])).collect();
        crate::tokens::bech32_tail(b"AGE-SECRET-KEY-", body.as_bytes())
            .map(|tail| body.clone() + &tail)
            .filter(|_| self.fill.is_none())
            .unwrap_or(body + "QQQQQQ")
    }
}

const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn base62_of(mut number: u32) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.as_bytes()[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8(digits.to_vec()).expect("ASCII")
}

fn ids(secrets: &[Secret]) -> Vec<&'static str> {
    secrets.iter().map(|s| s.rule.id).collect()
}

/// Rule, path, a text with the secret, and a text that only looks like it.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("private-key-rsa", "etc/a.pem", "{key:rsa}", "-----BEGIN RSA PRIVATE KEY-----\nMIIC...\n"),
    ("private-key-ec", "a.pem", "{key:ec}", "{key:public}"),
    ("private-key-ec", "a.pem", "{key:ec-params}", "{key:cert}"),
    (
        "private-key-ec",
        "a.json",
        r#"{"key":"{line-key:ec}"}"#,
        r#"x = "-----BEGIN EC PRIVATE KEY-----\n";"#,
    ),
    (
        "private-key-dsa",
        "a.pem",
        "{key:dsa}",
        "-----BEGIN DSA PRIVATE KEY-----\n{64:64}\n-----END DSA PRIVATE KEY-----\n",
    ),
    (
        "private-key-pkcs8",
        "a.pem",
        "{key:pkcs8-ec}",
        "-----BEGIN PRIVATE KEY-----\n{64:64}\n-----END PRIVATE KEY-----\n",
    ),
    (
        "private-key-pkcs8",
        "a.yaml",
        "tls.key: {b64-key:pkcs8-ed25519}\n",
        "tls.crt: {b64-key:cert}\n",
    ),
    (
        "private-key-openssh",
        "root/.ssh/id_ed25519",
        "{key:ossh}",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{64:64}\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    (
        "private-key-pgp",
        "a.asc",
        "{key:pgp-plain}",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{64:64}\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----\n",
    ),
    (
        "private-key-pgp",
        "a.asc",
        "{key:pgp-rsa}",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{64:64}\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ),
    (
        "private-key-pgp",
        "a.asc",
        "{key:pgp-nist}",
        "-----BEGIN PGP SIGNATURE-----\n\n{64:64}\n-----END PGP SIGNATURE-----\n",
    ),
    (
        "private-key-putty",
        "a.ppk",
        "{key:putty}",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 0\n",
    ),
    (
        "private-key-putty",
        "a.ppk",
        "{key:putty2}",
        "the header is PuTTY-User-Key-File-2: ssh-rsa\n",
    ),
    (
        "private-key-encrypted",
        "a.pem",
        "{key:rsa-locked}",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nabcd\n-----END RSA PRIVATE KEY-----\n",
    ),
    (
        "private-key-encrypted",
        "a.pem",
        "{key:pkcs8-locked}",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{64:64}\n-----END ENCRYPTED PRIVATE KEY-----\n",
    ),
    ("private-key-encrypted", "a", "{key:ossh-locked}", "{key:public}"),
    ("private-key-encrypted", "a", "{key:pgp-locked}", "{key:cert}"),
    ("private-key-encrypted", "a", "{key:putty-locked}", "Encryption: aes256-cbc\n"),
    ("private-key-age", "key.txt", "AGE-SECRET-KEY-1{bech32}\n", "AGE-SECRET-KEY-1{32:58}\n"),
    (
        "kubeconfig-client-key",
        ".kube/config",
        "    client-key-data: {b64-key:ec}\n",
        "    client-certificate-data: {b64-key:cert}\n",
    ),
    (
        "gcp-service-account",
        "key.json",
        r#""private_key_id": "{h:40}", "private_key": "{line-key:pkcs8-ec}", "#,
        r#""private_key_id": "{h:40}", "private_key": "-----BEGIN PRIVATE KEY-----\n…", "#,
    ),
    (
        "aws-access-key",
        ".aws/credentials",
        "aws_access_key_id = AKIA{32:16}\naws_secret_access_key = {64:40}\n",
        "aws_secret_access_key = {h:40}\n",
    ),
    ("aws-access-key", "a.js", "secretAccessKey: '{64:40}'", "secretAccessKey: '{64:41}'"),
    (
        "aws-access-key",
        "a.py",
        r#"keys = ("AKIA{32:16}", "{64:40}")"#,
        r#"keys = ("AKIA{32:15}", "{64:40}")"#,
    ),
    ("aws-access-key-id", "a.txt", "id AKIA{32:16} only", "id AKIA{32:17} only"),
    ("aws-bedrock-key", "a", "x=ABSK{64:128}", "x=ABSK{64:60}"),
    ("gcp-api-key", "a.js", r#"key: "AIza{url:35}","#, r#"key: "AIza{url:34}","#),
    (
        "gcp-oauth-secret",
        "a.json",
        r#""client_secret":"GOCSPX-{url:28}""#,
        r#""client_secret":"GOCSPX-{url:20}""#,
    ),
    (
        "azure-storage-key",
        "a",
        "AccountName=x;AccountKey={64:86}==;EndpointSuffix=core.windows.net",
        "AccountKey={64:60}==",
    ),
    (
        "azure-shared-access-key",
        "a",
        "SharedAccessKeyName=x;SharedAccessKey={64:43}=",
        "SharedAccessKey={64:30}=",
    ),
    ("azure-client-secret", "a", "secret = {62:3}8Q~{url:34}\n", "secret = {62:3}8Q~{url:20}\n"),
    ("alibaba-access-key-id", "a", "id=LTAI{62:20}", "id=LTAI{62:19}"),
    ("digitalocean-token", "a", "dop_v1_{h:64}", "dop_v1_{h:63}"),
    ("digitalocean-token", "a", "doo_v1_{h:64}", "doo_v2_{h:64}"),
    ("cloudflare-origin-key", "a", "v1.0-{h:24}-{h:146}", "v1.0-{h:24}-{h:145}"),
    ("heroku-key", "a", "HRKU-AA{url:58}", "HRKU-AA{url:57}"),
    ("heroku-key", "a", "HEROKU_API_KEY={uuid}", "HEROKU_API_KEY={h:32}"),
    ("fly-token", "a", "FlyV1 fm2_{64:120}", "FlyV1 fm2_{64:60}"),
    (
        "kubernetes-service-account",
        "token",
        "{jwt:'iss':'kubernetes/serviceaccount','sub':'system:serviceaccount:a:b'}",
        "{jwt:'sub':'1234567890','name':'John Doe'}",
    ),
    ("openshift-token", "a", "token: sha256~{url:43}", "token: sha256~{url:42}"),
    (
        "docker-auth",
        "root/.docker/config.json",
        r#"{"auths":{"ghcr.io":{"auth":"{b64:bob:[62:20]}"}}}"#,
        r#"{"auths":{"ghcr.io":{"auth":"{b64:bob}"}}}"#,
    ),
    (
        "docker-auth",
        "a.json",
        r#"{"auths":{"ghcr.io":{"auth":"{b64:bob:[62:20]}"}}}"#,
        r#"{"auth":"{b64:bob:[62:20]}"}"#,
    ),
    ("docker-token", "a", "dckr_pat_{url:27}", "dckr_pat_{url:26}"),
    ("github-token", "a", "gh\u{70}_{62:30}{crc}", "gh\u{70}_{62:36}"),
    ("github-token", "a", "https://x:gh\u{73}_{62:30}{crc}@github.com/a", "gh\u{73}_{62:35}"),
    (
        "github-token",
        "a",
        "gh\u{73}_123456_{jwt:'iss':'github','app':7}",
        "gh\u{73}_123456_eyJ{62:36}",
    ),
    ("github-token", "a", "github_pat_{62:22}_{62:59}", "github_pat_{62:22}_{62:58}"),
    ("gitlab-token", "a", "glpat-{url:20}", "glpat-{url:19}"),
    ("gitlab-token", "a", "glpat-{url:36}.{l:2}.{l:9}", "glpat-{url:36}.{l:2}"),
    ("gitlab-token", "a", "glptt-{h:40}", "glptt-{h:39}"),
    ("npm-token", ".npmrc", "//registry.npmjs.org/:_authToken=npm_{62:30}{crc}", "npm_{62:36}"),
    (
        "npmrc-auth",
        ".npmrc",
        "//registry.corp/:_authToken={uuid}",
        "//registry.corp/:_authToken=${NPM_TOKEN}",
    ),
    ("npmrc-auth", ".npmrc", "//registry.corp/:_auth=\"{64:32}\"", "//registry.corp/:_auth=false"),
    ("pypi-token", "a", "pypi-AgEIcHlwaS5vcmc{url:150}", "pypi-AgEIcHlwaS5vcmc{url:40}"),
    ("rubygems-key", "a", "rubygems_{h:48}", "rubygems_{h:40}"),
    ("nuget-key", "a", "oy2{l:43}", "oy2{l:42}"),
    ("crates-io-token", "a", "token = \"cio{62:32}\"", "token = \"cio{62:30}\""),
    ("artifactory-token", "a", "AKCp{62:69}", "AKCp{62:60}"),
    ("sourcegraph-token", "a", "sgp_{h:40}", "sgp_{h:39}"),
    ("terraform-token", "a", "{62:14}.atlasv1.{url:67}", "{62:10}.atlasv1.{url:67}"),
    ("pulumi-token", "a", "pul-{h:40}", "pul-{h:41}"),
    ("vault-token", "a", "hvs.{url:95}", "hvs.{url:50}"),
    ("vault-token", "a", "hvs.{62:24}", "hvs.{62:23}"),
    ("doppler-token", "a", "dp.pt.{62:43}", "dp.pt.{62:20}"),
    ("onepassword-token", "a", "ops_eyJ{64:300}", "ops_eyJ{64:200}"),
    ("slack-token", "a", "xox\u{62}-{d:12}-{d:12}-{62:24}", "xox\u{62}-{d:12}-{d:12}-{62:20}"),
    ("slack-token", "a", "xapp-1-A{u:10}-{d:13}-{h:64}", "xapp-1-A{u:10}-{d:13}-{h:60}"),
    (
        "slack-webhook",
        "a",
        "https://hooks.slack.com/services/T{u:10}/B{u:10}/{62:24}",
        "https://hooks.slack.com/services/T{u:10}/B{u:10}/",
    ),
    (
        "discord-token",
        "a",
        "discord_token = {b64:[d:18]}.{url:6}.{url:38}",
        "discord_token = {62:24}.{url:6}.{url:38}",
    ),
    (
        "discord-webhook",
        "a",
        "https://discord.com/api/webhooks/{d:18}/{url:68}",
        "https://discord.com/api/webhooks/{d:18}/{url:20}",
    ),
    (
        "telegram-token",
        "a",
        "https://api.telegram.org/bot{d:10}:AA{url:33}/getMe",
        "{d:10}:AA{url:30}",
    ),
    ("stripe-key", "a", "sk_\u{6c}ive_{62:24}", "sk_\u{6c}ive_{62:20}"),
    ("stripe-test-key", "a", "sk_\u{74}est_{62:24}", "sk_\u{74}est_{62:20}"),
    ("stripe-webhook-secret", "a", "whsec_{62:32}", "whsec_{62:20}"),
    ("square-token", "a", "sq0atp-{url:22}", "sq0atp-{url:20}"),
    ("shopify-token", "a", "shpat_{h:32}", "shpat_{h:31}"),
    ("twilio-token", "a", "TWILIO_AUTH_TOKEN={h:32}", "TWILIO_AUTH_TOKEN={h:31}"),
    ("sendgrid-key", "a", "SG.{url:22}.{url:43}", "SG.{url:22}.{url:42}"),
    ("brevo-key", "a", "xkeysib-{h:64}-{62:16}", "xkeysib-{h:64}"),
    ("openai-key", "a", "sk-proj-{url:74}T3BlbkFJ{url:74}", "sk-proj-{url:74}T3BlbkFK{url:74}"),
    ("openai-key", "a", "sk-{62:20}T3BlbkFJ{62:20}", "pk-{62:20}T3BlbkFJ{62:20}"),
    ("anthropic-key", "a", "sk-ant-api03-{url:93}AA", "sk-ant-api03-{url:93}BB"),
    ("huggingface-token", "a", "hf_{62:34}", "hf_{62:33}"),
    ("replicate-token", "a", "r8_{62:37}", "r8_{62:36}"),
    ("groq-key", "a", "gsk_{62:52}", "gsk_{62:50}"),
    ("perplexity-key", "a", "pplx-{62:48}", "pplx-{62:40}"),
    ("databricks-token", "a", "dapi{h:32}", "dapi{h:31}"),
    ("planetscale-token", "a", "pscale_tkn_{url:43}", "pscale_tkn_{url:20}"),
    ("supabase-token", "a", "sbp_{h:40}", "sbp_{h:39}"),
    ("grafana-token", "a", "glsa_{62:32}_{h:8}", "glsa_{62:32}_{h:7}"),
    ("sentry-token", "a", "sntryu_{h:64}", "sntryu_{h:63}"),
    ("newrelic-key", "a", "NRAK-{u:27}", "NRAK-{u:26}"),
    ("dynatrace-token", "a", "dt0c01.{32:24}.{32:64}", "dt0c01.{32:24}.{32:63}"),
    ("linear-key", "a", "lin_api_{62:40}", "lin_api_{62:39}"),
    ("notion-token", "a", "ntn_{d:11}{62:35}", "ntn_{d:11}{62:34}"),
    ("postman-key", "a", "PMAK-{h:24}-{h:34}", "PMAK-{h:24}-{h:33}"),
    ("atlassian-token", "a", "ATATT3{url:177}={u:8}", "ATATT3{url:150}"),
    ("tailscale-key", "a", "tskey-auth-{62:16}-{62:32}", "tskey-auth-{62:16}"),
    ("jwt", "a", "Bearer {jwt:'iss':'corp','sub':'alice','exp':1}", "Bearer {jwt:'foo':'bar'}"),
    (
        "database-url",
        "a",
        "DB=postgres://app:{62:12}@db.corp:5432/x",
        "DB=postgres://app:{62:12}@localhost/x",
    ),
    ("database-url", "a", "redis://:{62:12}@cache.corp", "redis://app@cache.corp"),
    (
        "url-password",
        "etc/pip.conf",
        "index-url = https://bob:{62:12}@pypi.corp/simple",
        "index-url = https://pypi.corp/simple",
    ),
    (
        "git-credentials",
        "root/.git-credentials",
        "https://bob:{62:12}@git.corp",
        "https://bob@git.corp",
    ),
    (
        "netrc",
        "root/.netrc",
        "machine git.corp\n  login bob\n  password {62:12}\n",
        "machine ftp.corp login anonymous password {62:12}\n",
    ),
    ("pgpass", "root/.pgpass", "db.corp:5432:*:bob:{62:12}", "db.corp:5432:*:bob:"),
    (
        "named-password",
        "app/.env",
        "export DB_PASSWORD='{62:12}'\n",
        "DB_PASSWORD_FILE=/run/secrets/{62:12}\n",
    ),
    ("named-password", "app/.env.production", "JWT_SECRET={62:32}", "PUBLIC_API_KEY={62:32}"),
];

/// Random texts are taken for words now and then: no more than this many of a hundred.
const MISSED: usize = 3;

#[test]
fn every_rule_has_a_row() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.0).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(rows, rules);
    assert_eq!(rules.len(), RULES.len(), "ids are unique");
}

#[test]
fn finds_what_is_there_and_nothing_else() {
    let finder = Finder::new();
    for (row, (id, path, with, without)) in ROWS.iter().enumerate() {
        let mut missed = 0;
        for seed in 0..100u64 {
            let mut maker = Maker { state: seed << 32 | row as u64, fill: None };
            let text = maker.write(with);
            let secrets = finder.in_file(path, text.as_bytes());
            match ids(&secrets).as_slice() {
                [found] if found == id => {}
                // The key's id alone is left when its secret looks typed.
                [] | ["aws-access-key-id"] => missed += 1,
                other => panic!("{id} in {text:?}: {other:?}"),
            }
            for secret in &secrets {
                assert!(text.len() < 40 || secret.shown.len() < text.len(), "{secret:?}");
            }
            let mut near = maker.write(without);
            // An id without a secret is a finding by itself.
            if *id == "aws-access-key" {
                near = near.replace("AKIA", "AKIB");
            }
            let found = finder.in_file(path, near.as_bytes());
            assert!(found.is_empty(), "near miss {near:?}: {found:?}");
        }
        assert!(missed <= MISSED, "{id} ({with}) was missed {missed} times of 100");
    }
}

#[test]
fn placeholders_are_not_secrets() {
    let finder = Finder::new();
    for (id, path, with, _) in ROWS.iter().filter(|row| !row.2.contains("key:")) {
        for fill in ['x', 'X', '0', '*', 'A'] {
            let mut maker = Maker { state: 1, fill: Some(fill) };
            let text = maker.write(with).replace("AKIA", "AKIB");
            let found = finder.in_file(path, text.as_bytes());
            assert!(found.is_empty(), "{id} with {fill}: {text:?}: {found:?}");
        }
    }
}

#[test]
fn samples_of_manuals_are_not_secrets() {
    let finder = Finder::new();
    let samples = [
        concat!("aws_access_key_id = AKIAIOSFODNN7", "EXAMPLE"),
        concat!("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "EXAMPLEKEY"),
        "POSTGRES_URL=postgres://user:password@db/app",
        "postgresql://scott:tiger@db.corp/app",
        "mysql://root:${MYSQL_PASSWORD}@db/app",
        "mysql://{user}:{password}@{host}/app",
        "mongodb://<user>:<password>@cluster0.mongodb.net",
        "amqp://guest:guest@rabbit:5672/",
        "redis://:%s@%s:%d/0",
        "postgres://app:$DB_PASS@db/app",
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "if line == \"-----BEGIN PRIVATE KEY-----\" {",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n<snip>\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "machine example login USER password PASSWORD",
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/",
    ];
    for sample in samples {
        let found = finder.in_file("root/.netrc", sample.as_bytes());
        assert!(found.is_empty(), "{sample:?}: {found:?}");
    }
}

#[test]
fn github_checksum_is_that_of_a_published_token() {
    let token = concat!("zQWBuTSOoRi4A9sp", "HcVY5ncnsDkxkJ", "0mLq17");
    let (body, sum) = token.split_at(30);
    assert_eq!(base62(sum.as_bytes()), Some(u64::from(crc32(body.as_bytes()))));
    assert_eq!(base62_of(crc32(body.as_bytes())), sum);
}

#[test]
fn bech32_is_that_of_the_specification() {
    // BIP 173, "Test vectors".
    assert!(crate::tokens::is_bech32(b"ABCDEF", b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LMQQQXW"));
    assert!(crate::tokens::is_bech32(b"A", b"2UEL5L"));
    assert!(!crate::tokens::is_bech32(b"A", b"2UEL5M"));
}

#[test]
fn variables() {
    let finder = Finder::new();
    let mut maker = Maker { state: 7, fill: None };
    let hex = maker.write("{h:32}");
    let token = maker.write("gh\u{70}_{62:30}{crc}");
    let secret = maker.write("{64:40}");
    let named = &["named-password"][..];
    let rows: &[(&str, &str, &[&str])] = &[
        ("GITHUB_TOKEN", &token, &["github-token"]),
        ("AWS_SECRET_ACCESS_KEY", &secret, &["aws-access-key"]),
        ("TWILIO_AUTH_TOKEN", &hex, &["twilio-token"]),
        ("MYSQL_ROOT_PASSWORD", "c0rrect-horse", named),
        ("DATABASE_PASSWD", "Winter2024", named),
        ("APP_API_KEY", &hex, named),
        ("SECRET_KEY", &hex, named),
        // What images are full of, and what is no secret (dockle 154, 202, 239).
        ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D", &[]),
        ("RABBITMQ_PGP_KEY_ID", "0x0A9AF2115F4687BD29803A206B73A36E6026DFCA", &[]),
        ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes", &[]),
        ("MYSQL_RANDOM_ROOT_PASSWORD", "true", &[]),
        ("POSTGRES_PASSWORD_FILE", "/run/secrets/password", &[]),
        ("POSTGRES_PASSWORD", "", &[]),
        ("POSTGRES_PASSWORD", "changeme", &[]),
        ("POSTGRES_PASSWORD", "${PGPASS}", &[]),
        ("SECRET_KEY", "/etc/app/secret", &[]),
        ("API_TOKEN", "https://vault.corp/v1/secret", &[]),
        ("PHP_SHA256", &hex, &[]),
        ("NEXT_PUBLIC_API_KEY", &hex, &[]),
        ("KEY", &hex, &[]),
        ("MAX_TOKEN", "4096", &[]),
        ("PASSWORDLESS", "c0rrect-horse", &[]),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", &[]),
        ("LANG", "C.UTF-8", &[]),
    ];
    for (name, value, wanted) in rows {
        let secrets = finder.in_env(name, value);
        assert_eq!(ids(&secrets), *wanted, "{name}={value}");
        for secret in secrets {
            assert_eq!(secret.line, 0, "{name}");
            assert!(!secret.shown.contains(value), "{name}: {}", secret.shown);
        }
    }
}

#[test]
fn lines_and_what_is_shown() {
    let finder = Finder::new();
    let mut maker = Maker { state: 3, fill: None };
    let token = maker.write("gh\u{70}_{62:30}{crc}");
    let text = format!("\n\n a {token}\n{token} {token}\n# postgres://app:s3kr3t-Wort@db.corp/x\n");
    let secrets = finder.in_file("a", text.as_bytes());
    let lines: Vec<u32> = secrets.iter().map(|s| s.line).collect();
    assert_eq!(lines, [3, 4, 5], "two of one kind on a line are shown once");
    assert_eq!(secrets[0].shown, format!("{}…", &token[..8]));
    assert_eq!(secrets[2].shown, "postgres://app:…@db.corp");
    let escaped = format!("{{\"a\":\"x\\n{token}\"}}");
    assert_eq!(ids(&finder.in_file("a", escaped.as_bytes())), ["github-token"]);
}

#[test]
fn binary_files_are_passed_over() {
    let mut maker = Maker { state: 3, fill: None };
    let token = maker.write("gh\u{70}_{62:30}{crc}");
    let finder = Finder::new();
    assert_eq!(finder.in_file("a", token.as_bytes()).len(), 1);
    assert_eq!(finder.in_file("a", format!("\0{token}").as_bytes()), []);
}

#[test]
fn of_one_rule_there_are_not_endlessly_many() {
    let mut maker = Maker { state: 3, fill: None };
    let text: String = (0..1000).map(|_| maker.write("gh\u{70}_{62:30}{crc}\n")).collect();
    let found = Finder::new().in_file("a", text.as_bytes());
    assert_eq!(found.len(), usize::from(MAX_PER_RULE));
}

#[test]
fn which_files_are_read() {
    let rows: &[(&str, u64, bool)] = &[
        ("/app/config.json", 100, true),
        ("app/.env", 100, true),
        ("root/.ssh/id_rsa", 1700, true),
        ("etc/ssl/private/ssl-cert-snakeoil.key", 1700, true),
        ("etc/ssh/ssh_host_rsa_key", 1700, true),
        ("app/tests/key.pem", 1700, true),
        ("app/node_modules.js", 1700, true),
        ("usr/lib/python3.12/config.py", 1700, true),
        ("home/test/.aws/credentials", 100, true),
        ("app/empty", 0, false),
        ("app/dump.sql", crate::MAX_FILE, true),
        ("app/dump.sql", crate::MAX_FILE + 1, false),
        ("app/logo.PNG", 100, false),
        ("usr/lib/libc.so.6", 100, false),
        ("usr/lib/python3.12/test/keycert.pem", 4000, false),
        ("usr/local/lib/python3.12/test/certdata/keycert.pem", 4000, false),
        ("usr/share/doc/openssl/key.pem", 1700, false),
        ("app/node_modules/a/test/key.pem", 1700, false),
        ("app/node_modules/a/index.js", 1700, true),
        ("app/node_modules/a/lib/test.js", 1700, true),
        ("root/go/pkg/mod/a.org/b@v1/c/testdata/key.pem", 1700, false),
        ("usr/local/go/src/crypto/tls/testdata/example-key.pem", 1700, false),
        ("usr/local/go/src/crypto/tls/tls_test.go", 1700, false),
        ("usr/lib/ruby/3.1.0/openssl/sample/key.pem", 1700, false),
        ("venv/lib/python3/site-packages/tornado/test/test.key", 1700, false),
        ("venv/lib/python3/site-packages/app/key.pem", 1700, true),
    ];
    for (path, size, wanted) in rows {
        assert_eq!(Finder::wants(path, *size), *wanted, "{path} of {size} bytes");
    }
    assert!(crate::paths::is_sound());
}

/// Everything that is found in the text of the fixtures, to be mutated.
fn everything() -> Vec<u8> {
    let mut maker = Maker { state: 1, fill: None };
    ROWS.iter().flat_map(|row| (maker.write(row.2) + "\n").into_bytes()).collect()
}

const NAMES: &[&str] =
    &["a", ".netrc", ".pgpass", ".env", ".git-credentials", "etc/pip.conf", ".docker/config.json"];

#[test]
fn a_text_cut_anywhere_is_read() {
    let finder = Finder::new();
    let mut maker = Maker { state: 5, fill: None };
    let mut found = 0;
    for (_, path, with, _) in ROWS {
        let text = maker.write(with);
        for end in (0..text.len()).step_by(1 + text.len() / 200) {
            found += finder.in_file(path, &text.as_bytes()[..end]).len();
            found += finder.in_file(path, &text.as_bytes()[end..]).len();
        }
    }
    assert!(found > ROWS.len(), "something was found");
}

proptest! {
    #[test]
    fn nothing_panics(
        cut in 0usize..20_000,
        length in 0usize..3000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        name in 0..NAMES.len(),
    ) {
        let all = everything();
        let start = cut.min(all.len());
        let mut text = all[start..(start + length).min(all.len())].to_vec();
        for (index, byte) in changes {
            if !text.is_empty() {
                let at = index.index(text.len());
                text[at] = byte;
            }
        }
        let finder = Finder::new();
        for secret in finder.in_file(NAMES[name], &text) {
            prop_assert!(secret.line >= 1 && secret.shown.chars().count() < 200);
        }
        let text = String::from_utf8_lossy(&text);
        finder.in_env(&text[..text.floor_char_boundary(20)], &text);
    }

    #[test]
    fn nothing_panics_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let finder = Finder::new();
        for name in NAMES {
            prop_assert!(finder.in_file(name, &bytes).len() <= RULES.len() * usize::from(MAX_PER_RULE));
        }
        Finder::wants(&String::from_utf8_lossy(&bytes), 100);
    }
}
