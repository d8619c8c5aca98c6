//! What is looked for: each rule with its severity and what to do about a finding.
//!
//! What a rule takes for a secret is written where it is read: `tokens.rs` for what has a prefix,
//! `keys.rs` for private keys, `context.rs` for values that only their name gives away, `files.rs`
//! for files that are made to hold passwords.

use portcullis_types::Severity;

/// A kind of secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Identifier in kebab-case, for example `github-token`.
    pub id: &'static str,
    /// How bad it is if the secret is real.
    pub severity: Severity,
    /// What was found, as the start of a sentence.
    pub title: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

const KEY: &str = "Treat the key as known to everybody who can pull the image: replace it wherever \
                   its public half is trusted. Mount the new one when the container starts, and build \
                   the image again without it in any layer.";
const LOCKED: &str = "Whoever pulls the image can try passphrases without end: replace the key, and \
                      mount the new one when the container starts.";
const TOKEN: &str = "Revoke it where it was issued, and look there for use by others. Give the new one \
                     when the container starts, from a secret store, and build the image again without \
                     it in any layer.";
const PASSWORD: &str = "Change the password. Give the new one when the container starts, from a secret \
                        store or a mounted file, and build the image again without it in any layer.";
const BUILD: &str = "Revoke it where it was issued. Give it to the build as a build secret \
                     (`RUN --mount=type=secret`), which leaves nothing in a layer.";
const LOOK: &str = "See whether it has expired and what it is for. If it is still good, revoke it and \
                    give the new one when the container starts.";
const RESTRICT: &str = "If it is meant for browsers, restrict it to your sites and APIs; otherwise \
                        delete it and give a new one when the container starts.";

/// Declares the rules and a name in code for each, in the same order.
macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $title:literal $remedy:ident;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Id { $($name),+ }

        /// All rules.
        pub static RULES: &[Rule] = &[$(Rule {
            id: $id, severity: Severity::$severity, title: $title, remedy: $remedy,
        }),+];
    };
}

impl Id {
    pub(crate) fn rule(self) -> &'static Rule {
        &RULES[self as usize]
    }
}

rules! {
    PrivateKeyRsa "private-key-rsa" High "RSA private key" KEY;
    PrivateKeyEc "private-key-ec" High "Private key on an elliptic curve" KEY;
    PrivateKeyDsa "private-key-dsa" High "DSA private key" KEY;
    PrivateKeyPkcs8 "private-key-pkcs8" High "Private key" KEY;
    PrivateKeyOpenssh "private-key-openssh" High "OpenSSH private key" KEY;
    PrivateKeyPgp "private-key-pgp" High "OpenPGP private key" KEY;
    PrivateKeyPutty "private-key-putty" High "PuTTY private key" KEY;
    PrivateKeyAge "private-key-age" High "age private key" KEY;
    PrivateKeyEncrypted "private-key-encrypted" Low "Private key under a passphrase" LOCKED;
    KubeconfigClientKey "kubeconfig-client-key" Critical "Client key in a kubeconfig" KEY;
    AwsAccessKey "aws-access-key" Critical "Secret of an AWS access key" TOKEN;
    AwsKeyName "aws-access-key-id" Low "Id of an AWS access key, without its secret" LOOK;
    AwsBedrockKey "aws-bedrock-key" High "Amazon Bedrock API key" TOKEN;
    GcpServiceAccount "gcp-service-account" Critical "Key of a Google Cloud service account" TOKEN;
    GcpApiKey "gcp-api-key" Medium "Google API key" RESTRICT;
    GcpOauthSecret "gcp-oauth-secret" Medium "Google OAuth client secret" TOKEN;
    AzureStorageKey "azure-storage-key" Critical "Key of an Azure storage or Cosmos DB account" TOKEN;
    AzureSharedAccessKey "azure-shared-access-key" High "Azure shared access key" TOKEN;
    AzureClientSecret "azure-client-secret" High "Secret of an Azure application" TOKEN;
    AlibabaKeyName "alibaba-access-key-id" Low "Id of an Alibaba Cloud access key" LOOK;
    DigitaloceanToken "digitalocean-token" High "DigitalOcean token" TOKEN;
    CloudflareOriginKey "cloudflare-origin-key" High "Cloudflare origin CA key" TOKEN;
    HerokuKey "heroku-key" High "Heroku API key" TOKEN;
    FlyToken "fly-token" High "Fly.io token" TOKEN;
    KubernetesToken "kubernetes-service-account" High "Token of a Kubernetes service account" TOKEN;
    OpenshiftToken "openshift-token" High "OpenShift user token" TOKEN;
    DockerAuth "docker-auth" High "Registry login in a Docker configuration" BUILD;
    DockerToken "docker-token" High "Docker Hub token" BUILD;
    GithubToken "github-token" Critical "GitHub token" BUILD;
    GitlabToken "gitlab-token" Critical "GitLab token" BUILD;
    NpmToken "npm-token" Critical "npm token" BUILD;
    NpmrcAuth "npmrc-auth" High "Registry login in an npm configuration" BUILD;
    PypiToken "pypi-token" Critical "PyPI upload token" BUILD;
    RubygemsKey "rubygems-key" Critical "RubyGems API key" BUILD;
    NugetKey "nuget-key" High "NuGet API key" BUILD;
    CratesIoToken "crates-io-token" High "crates.io token" BUILD;
    ArtifactoryToken "artifactory-token" High "Artifactory token" BUILD;
    SourcegraphToken "sourcegraph-token" High "Sourcegraph token" TOKEN;
    TerraformToken "terraform-token" High "Terraform Cloud token" TOKEN;
    PulumiToken "pulumi-token" High "Pulumi token" TOKEN;
    VaultToken "vault-token" High "HashiCorp Vault token" TOKEN;
    DopplerToken "doppler-token" High "Doppler token" TOKEN;
    OnePasswordToken "onepassword-token" Critical "1Password service account token" TOKEN;
    SlackToken "slack-token" High "Slack token" TOKEN;
    SlackWebhook "slack-webhook" Medium "Slack webhook" TOKEN;
    DiscordToken "discord-token" High "Token of a Discord bot" TOKEN;
    DiscordWebhook "discord-webhook" Medium "Discord webhook" TOKEN;
    TelegramToken "telegram-token" High "Token of a Telegram bot" TOKEN;
    StripeKey "stripe-key" Critical "Stripe key" TOKEN;
    StripeTestKey "stripe-test-key" Low "Stripe key of a test account" TOKEN;
    StripeWebhook "stripe-webhook-secret" Medium "Signing secret of a Stripe webhook" TOKEN;
    SquareToken "square-token" Critical "Square token" TOKEN;
    ShopifyToken "shopify-token" High "Shopify token" TOKEN;
    TwilioToken "twilio-token" High "Twilio auth token" TOKEN;
    SendgridKey "sendgrid-key" High "SendGrid API key" TOKEN;
    BrevoKey "brevo-key" High "Brevo API key" TOKEN;
    OpenaiKey "openai-key" High "OpenAI API key" TOKEN;
    AnthropicKey "anthropic-key" High "Anthropic API key" TOKEN;
    HuggingfaceToken "huggingface-token" High "Hugging Face token" TOKEN;
    ReplicateToken "replicate-token" High "Replicate token" TOKEN;
    GroqKey "groq-key" High "Groq API key" TOKEN;
    PerplexityKey "perplexity-key" High "Perplexity API key" TOKEN;
    DatabricksToken "databricks-token" High "Databricks token" TOKEN;
    PlanetscaleToken "planetscale-token" High "PlanetScale token" TOKEN;
    SupabaseToken "supabase-token" High "Supabase token" TOKEN;
    GrafanaToken "grafana-token" High "Grafana token" TOKEN;
    SentryToken "sentry-token" Medium "Sentry token" TOKEN;
    NewrelicKey "newrelic-key" Medium "New Relic user key" TOKEN;
    DynatraceToken "dynatrace-token" High "Dynatrace token" TOKEN;
    LinearKey "linear-key" Medium "Linear API key" TOKEN;
    NotionToken "notion-token" Medium "Notion token" TOKEN;
    PostmanKey "postman-key" Medium "Postman API key" TOKEN;
    AtlassianToken "atlassian-token" High "Atlassian API token" TOKEN;
    TailscaleKey "tailscale-key" High "Tailscale key" TOKEN;
    Jwt "jwt" Low "Signed token (JWT)" LOOK;
    DatabaseUrl "database-url" High "Password in the URL of a database or queue" PASSWORD;
    UrlPassword "url-password" Medium "Login in a URL" PASSWORD;
    GitCredentials "git-credentials" High "Login stored by git" BUILD;
    Netrc "netrc" High "Password in a .netrc" PASSWORD;
    Pgpass "pgpass" High "Password in a .pgpass" PASSWORD;
    NamedPassword "named-password" Medium "Password or key in a variable" PASSWORD;
}
