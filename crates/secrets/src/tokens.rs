//! Tokens that say what they are: a prefix, then parts of known alphabet and length.
//!
//! Formats are those that the issuers document or that secret scanners agree on
//! (gitleaks/gitleaks `config/gitleaks.toml`, trufflesecurity/trufflehog `pkg/detectors`).
//! GitHub's and npm's tokens end with a checksum:
//! <https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/>.

use crate::finder::{Found, Text};
use crate::jwt;
use crate::rules::Id;
use crate::text::{Set, base62, crc32, is_random, shown};

/// What must follow, in order.
pub(crate) enum Part {
    /// As many bytes of the set as there are, up to the second number, at least the first.
    Run(Set, usize, usize),
    /// These bytes.
    Is(&'static str),
}

/// One more thing that holds of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    None,
    /// The last six characters are the CRC-32 of the thirty before, in base 62.
    Crc62,
    /// It ends with these bytes.
    Ends(&'static str),
    /// The rest of an age key: bech32 (BIP 173), whose last six characters are a checksum.
    Bech32,
    /// A JSON Web Token follows.
    Jwt,
}

/// The form of a token.
pub(crate) struct Shape {
    pub(crate) id: Id,
    pub(crate) prefix: &'static str,
    pub(crate) parts: &'static [Part],
    pub(crate) check: Check,
}

use Check::{Bech32, Crc62, Ends, Jwt};
use Part::{Is, Run};
use Set::{Base32, Base62, Base64, Base64Url, Digit, Hex, Lower, Upper, Wide};

macro_rules! shapes {
    ($($id:ident $prefix:literal [$($part:expr),* $(,)?] $($check:expr)?;)+) => {
        &[$(Shape {
            id: Id::$id,
            prefix: $prefix,
            parts: &[$($part),*],
            check: { #[allow(unused_mut, unused_assignments, reason = "not each shape has a check")]
                { let mut check = Check::None; $(check = $check;)? check } },
        }),+]
    };
}

/// All shapes. Those of one prefix stand together, the longer form first.
pub(crate) const SHAPES: &[Shape] = shapes! {
    PrivateKeyAge "AGE-SECRET-KEY-1" [Run(Upper, 58, 58)] Bech32;
    AwsBedrockKey "ABSK" [Run(Base64, 109, 269)];
    GcpApiKey "AIza" [Run(Base64Url, 35, 35)];
    GcpOauthSecret "GOCSPX-" [Run(Base64Url, 28, 28)];
    AlibabaKeyName "LTAI" [Run(Base62, 20, 20)];
    DigitaloceanToken "dop_v1_" [Run(Hex, 64, 64)];
    DigitaloceanToken "doo_v1_" [Run(Hex, 64, 64)];
    DigitaloceanToken "dor_v1_" [Run(Hex, 64, 64)];
    CloudflareOriginKey "v1.0-" [Run(Hex, 24, 24), Is("-"), Run(Hex, 146, 146)];
    HerokuKey "HRKU-AA" [Run(Base64Url, 58, 58)];
    FlyToken "fo1_" [Run(Base64Url, 43, 43)];
    FlyToken "fm2_" [Run(Base64, 100, 2000)];
    OpenshiftToken "sha256~" [Run(Base64Url, 43, 43)];
    DockerToken "dckr_pat_" [Run(Base64Url, 27, 27)];
    DockerToken "dckr_oat_" [Run(Base64Url, 32, 32)];
    GithubToken "ghp_" [Run(Base62, 36, 36)] Crc62;
    GithubToken "gho_" [Run(Base62, 36, 36)] Crc62;
    GithubToken "ghu_" [Run(Digit, 1, 12), Is("_")] Jwt;
    GithubToken "ghu_" [Run(Base62, 36, 36)] Crc62;
    GithubToken "ghs_" [Run(Digit, 1, 12), Is("_")] Jwt;
    GithubToken "ghs_" [Run(Base62, 36, 36)] Crc62;
    GithubToken "ghr_" [Run(Base62, 76, 76)];
    GithubToken "ghr_" [Run(Base62, 36, 36)] Crc62;
    GithubToken "github_pat_" [Run(Base62, 22, 22), Is("_"), Run(Base62, 59, 59)];
    GitlabToken "glpat-" [Run(Base64Url, 27, 300), Is("."), Run(Lower, 9, 9)];
    GitlabToken "glpat-" [Run(Base64Url, 27, 300), Is("."), Run(Lower, 2, 2), Is("."), Run(Lower, 9, 9)];
    GitlabToken "glpat-" [Run(Base64Url, 20, 20)];
    GitlabToken "glrt-" [Run(Base64Url, 20, 300), Is("."), Run(Lower, 2, 2), Is("."), Run(Lower, 9, 9)];
    GitlabToken "glrt-" [Run(Base64Url, 20, 300), Is("."), Run(Lower, 9, 9)];
    GitlabToken "glrt-" [Run(Base64Url, 20, 23)];
    GitlabToken "gldt-" [Run(Base64Url, 20, 20)];
    GitlabToken "glptt-" [Run(Hex, 40, 40)];
    GitlabToken "glft-" [Run(Base64Url, 20, 20)];
    GitlabToken "glsoat-" [Run(Base64Url, 20, 20)];
    GitlabToken "glffct-" [Run(Base64Url, 20, 20)];
    GitlabToken "glimt-" [Run(Base64Url, 25, 25)];
    GitlabToken "glagent-" [Run(Base64Url, 50, 50)];
    GitlabToken "gloas-" [Run(Base64Url, 64, 64)];
    GitlabToken "glcbt-" [Run(Base62, 1, 5), Is("_"), Run(Base64Url, 20, 20)];
    GitlabToken "GR1348941" [Run(Base64Url, 20, 20)];
    NpmToken "npm_" [Run(Base62, 36, 36)] Crc62;
    PypiToken "pypi-AgEIcHlwaS5vcmc" [Run(Base64Url, 50, 1000)];
    PypiToken "pypi-AgENdGVzdC5weXBpLm9yZw" [Run(Base64Url, 50, 1000)];
    RubygemsKey "rubygems_" [Run(Hex, 48, 48)];
    NugetKey "oy2" [Run(Lower, 43, 43)];
    CratesIoToken "cio" [Run(Base62, 32, 32)];
    ArtifactoryToken "AKCp" [Run(Base62, 69, 69)];
    ArtifactoryToken "cmVmdGtu" [Run(Base62, 56, 56)];
    SourcegraphToken "sgp_" [Run(Hex, 16, 16), Is("_"), Run(Hex, 40, 40)];
    SourcegraphToken "sgp_" [Run(Hex, 40, 40)];
    PulumiToken "pul-" [Run(Hex, 40, 40)];
    VaultToken "hvs." [Run(Base64Url, 90, 120)];
    VaultToken "hvs." [Run(Base62, 24, 24)];
    VaultToken "hvb." [Run(Base64Url, 138, 300)];
    DopplerToken "dp.pt." [Run(Base62, 40, 44)];
    DopplerToken "dp.st." [Run(Wide, 40, 80)];
    OnePasswordToken "ops_eyJ" [Run(Base64, 250, 2000)];
    SlackToken "xoxb-" [Run(Digit, 10, 13), Is("-"), Run(Digit, 10, 13), Is("-"), Run(Base62, 24, 24)];
    SlackToken "xoxb-" [Run(Digit, 10, 13), Is("-"), Run(Base62, 24, 24)];
    SlackToken "xoxp-" [Run(Digit, 10, 13), Is("-"), Run(Digit, 10, 13), Is("-"), Run(Digit, 10, 13),
        Is("-"), Run(Hex, 28, 34)];
    SlackToken "xapp-" [Run(Digit, 1, 1), Is("-"), Run(Upper, 9, 13), Is("-"), Run(Digit, 10, 15),
        Is("-"), Run(Hex, 64, 64)];
    SlackToken "xoxe.xoxb-1-" [Run(Base62, 163, 166)];
    SlackToken "xoxe.xoxp-1-" [Run(Base62, 163, 166)];
    SlackToken "xoxe-1-" [Run(Base62, 146, 147)];
    SlackWebhook "hooks.slack.com/services/T" [Run(Upper, 7, 12), Is("/B"), Run(Upper, 7, 12), Is("/"),
        Run(Base62, 24, 24)];
    DiscordWebhook "discord.com/api/webhooks/" [Run(Digit, 17, 20), Is("/"), Run(Base64Url, 60, 72)];
    DiscordWebhook "discordapp.com/api/webhooks/" [Run(Digit, 17, 20), Is("/"), Run(Base64Url, 60, 72)];
    StripeKey "sk_live_" [Run(Base62, 24, 247)];
    StripeKey "rk_live_" [Run(Base62, 24, 247)];
    StripeTestKey "sk_test_" [Run(Base62, 24, 247)];
    StripeTestKey "rk_test_" [Run(Base62, 24, 247)];
    StripeWebhook "whsec_" [Run(Base64, 32, 64)];
    SquareToken "sq0atp-" [Run(Base64Url, 22, 22)];
    SquareToken "sq0csp-" [Run(Base64Url, 43, 43)];
    ShopifyToken "shpat_" [Run(Hex, 32, 32)];
    ShopifyToken "shpca_" [Run(Hex, 32, 32)];
    ShopifyToken "shppa_" [Run(Hex, 32, 32)];
    ShopifyToken "shpss_" [Run(Hex, 32, 32)];
    SendgridKey "SG." [Run(Base64Url, 22, 22), Is("."), Run(Base64Url, 43, 43)];
    BrevoKey "xkeysib-" [Run(Hex, 64, 64), Is("-"), Run(Base62, 16, 16)];
    AnthropicKey "sk-ant-api03-" [Run(Base64Url, 95, 95)] Ends("AA");
    AnthropicKey "sk-ant-admin01-" [Run(Base64Url, 95, 95)] Ends("AA");
    AnthropicKey "sk-ant-oat01-" [Run(Base64Url, 95, 95)] Ends("AA");
    HuggingfaceToken "hf_" [Run(Base62, 34, 34)];
    ReplicateToken "r8_" [Run(Base62, 37, 37)];
    GroqKey "gsk_" [Run(Base62, 52, 52)];
    PerplexityKey "pplx-" [Run(Base62, 48, 48)];
    DatabricksToken "dapi" [Run(Hex, 32, 32), Is("-"), Run(Digit, 1, 1)];
    DatabricksToken "dapi" [Run(Hex, 32, 32)];
    PlanetscaleToken "pscale_tkn_" [Run(Wide, 32, 64)];
    PlanetscaleToken "pscale_pw_" [Run(Wide, 32, 64)];
    SupabaseToken "sbp_" [Run(Hex, 40, 40)];
    GrafanaToken "glsa_" [Run(Base62, 32, 32), Is("_"), Run(Hex, 8, 8)];
    GrafanaToken "glc_eyJ" [Run(Base64, 32, 400)];
    SentryToken "sntryu_" [Run(Hex, 64, 64)];
    SentryToken "sntrys_eyJpYXQiO" [Run(Base64, 20, 400), Is("="), Is("="), Is("_"), Run(Base64, 43, 43)];
    SentryToken "sntrys_eyJpYXQiO" [Run(Base64, 20, 400), Is("="), Is("_"), Run(Base64, 43, 43)];
    SentryToken "sntrys_eyJpYXQiO" [Run(Base64, 20, 400), Is("_"), Run(Base64, 43, 43)];
    NewrelicKey "NRAK-" [Run(Upper, 27, 27)];
    DynatraceToken "dt0c01." [Run(Base32, 24, 24), Is("."), Run(Base32, 64, 64)];
    LinearKey "lin_api_" [Run(Base62, 40, 40)];
    NotionToken "ntn_" [Run(Digit, 11, 11), Run(Base62, 35, 35)];
    PostmanKey "PMAK-" [Run(Hex, 24, 24), Is("-"), Run(Hex, 34, 34)];
    AtlassianToken "ATATT3" [Run(Wide, 186, 186)];
    TailscaleKey "tskey-auth-" [Run(Base62, 10, 24), Is("-"), Run(Base62, 30, 48)];
    TailscaleKey "tskey-api-" [Run(Base62, 10, 24), Is("-"), Run(Base62, 30, 48)];
    TailscaleKey "tskey-client-" [Run(Base62, 10, 24), Is("-"), Run(Base62, 30, 48)];
};

/// Reads a token of one of the shapes, whose prefix is at `at`.
pub(crate) fn read(text: &Text<'_>, at: usize, shapes: &[Shape], found: &mut Found) {
    // Nor behind `-`: that is within most alphabets, so a row of prefixes would be read again and again.
    if !text.begins_at(at) || text.bytes[..at].ends_with(b"-") {
        return;
    }
    let rest = &text.bytes[at..];
    for shape in shapes {
        if found.is_full(shape.id) {
            continue;
        }
        if let Some(length) = length(rest, shape) {
            found.push(at, shape.id, shown(&rest[..length], shape.prefix.len()));
            return;
        }
    }
}

/// The length of the token with which `rest` begins.
fn length(rest: &[u8], shape: &Shape) -> Option<usize> {
    let start = shape.prefix.len();
    let mut at = start;
    let (mut secret, mut set) = (at..at, Base62);
    for part in shape.parts {
        match part {
            Run(of, min, max) => {
                let length = of.run(rest.get(at..)?, *max);
                if length < *min {
                    return None;
                }
                if length >= secret.len() {
                    (secret, set) = (at..at + length, *of);
                }
                at += length;
            }
            Is(text) => {
                rest.get(at..)?.starts_with(text.as_bytes()).then_some(())?;
                at += text.len();
            }
        }
    }
    if shape.check == Jwt {
        let token = jwt::read(rest.get(at..)?)?;
        return at.checked_add(token.length);
    }
    // A longer word is something else. The alphabet of the last part counts too: `-` ends a base-62
    // token, and not one in base64url.
    if rest.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || set.has(*b)) {
        return None;
    }
    let body = &rest[start..at];
    let holds = match shape.check {
        Check::None | Jwt => true,
        Crc62 => base62(&body[30..]) == Some(u64::from(crc32(&body[..30]))),
        Ends(tail) => body.ends_with(tail.as_bytes()),
        Bech32 => is_bech32(shape.prefix.trim_end_matches('1').as_bytes(), body),
    };
    (holds && is_random(&rest[secret], set)).then_some(at)
}

/// BIP 173: the checksum over the part before `1` and the data behind it, both in upper case here.
pub(crate) fn is_bech32(human: &[u8], data: &[u8]) -> bool {
    bech32_sum(human, data) == Some(1)
}

const BECH32: &[u8] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

fn bech32_sum(human: &[u8], data: &[u8]) -> Option<u32> {
    const GENERATOR: [u32; 5] = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
    let step = |sum: u32, value: u32| {
        let top = sum >> 25;
        let sum = ((sum & 0x01ff_ffff) << 5) ^ value;
        (0..5).filter(|bit| (top >> bit) & 1 == 1).fold(sum, |s, bit| s ^ GENERATOR[bit])
    };
    let human: Vec<u32> = human.iter().map(|b| u32::from(b.to_ascii_lowercase())).collect();
    let mut sum = 1;
    for value in human.iter().map(|b| b >> 5).chain([0]).chain(human.iter().map(|b| b & 31)) {
        sum = step(sum, value);
    }
    for byte in data {
        sum = step(sum, BECH32.iter().position(|digit| digit == byte)? as u32);
    }
    Some(sum)
}

/// The six digits that complete `data`, for tests.
#[cfg(test)]
pub(crate) fn bech32_tail(human: &[u8], data: &[u8]) -> Option<String> {
    let sum = bech32_sum(human, &[data, b"QQQQQQ"].concat())? ^ 1;
    let digit = |index: u32| char::from(BECH32[((sum >> (5 * (5 - index))) & 31) as usize]);
    Some((0..6).map(digit).collect())
}
