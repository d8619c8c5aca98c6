//! Groups of well-known artifacts whose jars do not tell them.
//!
//! Builds with Gradle, Ant and sbt write no `pom.properties`, and many leave the manifest empty. What
//! stands here is under what group these projects publish in Maven's central repository. Only names
//! are here that no other project of weight uses.

/// Names that are whole.
const WHOLE: [(&str, &str); 68] = [
    ("ant", "org.apache.ant"),
    ("ant-launcher", "org.apache.ant"),
    ("cassandra-all", "org.apache.cassandra"),
    ("commons-beanutils", "commons-beanutils"),
    ("commons-codec", "commons-codec"),
    ("commons-collections", "commons-collections"),
    ("commons-collections4", "org.apache.commons"),
    ("commons-compress", "org.apache.commons"),
    ("commons-configuration", "commons-configuration"),
    ("commons-configuration2", "org.apache.commons"),
    ("commons-dbcp", "commons-dbcp"),
    ("commons-digester", "commons-digester"),
    ("commons-fileupload", "commons-fileupload"),
    ("commons-httpclient", "commons-httpclient"),
    ("commons-io", "commons-io"),
    ("commons-lang", "commons-lang"),
    ("commons-lang3", "org.apache.commons"),
    ("commons-logging", "commons-logging"),
    ("commons-net", "commons-net"),
    ("commons-text", "org.apache.commons"),
    ("elasticsearch", "org.elasticsearch"),
    ("graphql-java", "com.graphql-java"),
    ("h2", "com.h2database"),
    ("hsqldb", "org.hsqldb"),
    ("kafka-clients", "org.apache.kafka"),
    ("kafka-streams", "org.apache.kafka"),
    ("kafka_2.12", "org.apache.kafka"),
    ("kafka_2.13", "org.apache.kafka"),
    ("log4j", "log4j"),
    ("log4j-api", "org.apache.logging.log4j"),
    ("log4j-core", "org.apache.logging.log4j"),
    ("mssql-jdbc", "com.microsoft.sqlserver"),
    ("mysql-connector-j", "com.mysql"),
    ("mysql-connector-java", "mysql"),
    ("okio", "com.squareup.okio"),
    ("okio-jvm", "com.squareup.okio"),
    ("postgresql", "org.postgresql"),
    ("reactor-core", "io.projectreactor"),
    ("reactor-netty-core", "io.projectreactor.netty"),
    ("reactor-netty-http", "io.projectreactor.netty"),
    ("scala-library", "org.scala-lang"),
    ("spring-aop", "org.springframework"),
    ("spring-aspects", "org.springframework"),
    ("spring-beans", "org.springframework"),
    ("spring-context", "org.springframework"),
    ("spring-context-support", "org.springframework"),
    ("spring-core", "org.springframework"),
    ("spring-expression", "org.springframework"),
    ("spring-instrument", "org.springframework"),
    ("spring-jcl", "org.springframework"),
    ("spring-jdbc", "org.springframework"),
    ("spring-jms", "org.springframework"),
    ("spring-ldap-core", "org.springframework.ldap"),
    ("spring-messaging", "org.springframework"),
    ("spring-orm", "org.springframework"),
    ("spring-oxm", "org.springframework"),
    ("spring-r2dbc", "org.springframework"),
    ("spring-retry", "org.springframework.retry"),
    ("spring-test", "org.springframework"),
    ("spring-tx", "org.springframework"),
    ("spring-web", "org.springframework"),
    ("spring-webflux", "org.springframework"),
    ("spring-webmvc", "org.springframework"),
    ("spring-websocket", "org.springframework"),
    ("xalan", "xalan"),
    ("xercesImpl", "xerces"),
    ("xstream", "com.thoughtworks.xstream"),
    ("zookeeper", "org.apache.zookeeper"),
];

/// Beginnings of names; a longer one stands before a shorter one that it begins with.
const BEGINNINGS: [(&str, &str); 30] = [
    ("bcmail-jdk", "org.bouncycastle"),
    ("bcpg-jdk", "org.bouncycastle"),
    ("bcpkix-jdk", "org.bouncycastle"),
    ("bcprov-", "org.bouncycastle"),
    ("bctls-jdk", "org.bouncycastle"),
    ("bcutil-jdk", "org.bouncycastle"),
    ("derby", "org.apache.derby"),
    ("grpc-", "io.grpc"),
    ("kotlin-", "org.jetbrains.kotlin"),
    ("kotlinx-coroutines-", "org.jetbrains.kotlinx"),
    ("lucene-", "org.apache.lucene"),
    ("micrometer-", "io.micrometer"),
    ("opentelemetry-", "io.opentelemetry"),
    ("solr-", "org.apache.solr"),
    ("spring-amqp", "org.springframework.amqp"),
    ("spring-batch-", "org.springframework.batch"),
    ("spring-boot", "org.springframework.boot"),
    ("spring-cloud-", "org.springframework.cloud"),
    ("spring-data-", "org.springframework.data"),
    ("spring-graphql", "org.springframework.graphql"),
    ("spring-hateoas", "org.springframework.hateoas"),
    ("spring-integration-", "org.springframework.integration"),
    ("spring-kafka", "org.springframework.kafka"),
    ("spring-rabbit", "org.springframework.amqp"),
    ("spring-security-", "org.springframework.security"),
    ("spring-session-", "org.springframework.session"),
    ("spring-ws-", "org.springframework.ws"),
    ("struts2-", "org.apache.struts"),
    ("tomcat-embed-", "org.apache.tomcat.embed"),
    ("tomcat-", "org.apache.tomcat"),
];

/// The group of a well-known artifact.
pub(super) fn group_of(artifact: &str, version: &str) -> Option<&'static str> {
    let major = version.split('.').next().and_then(|part| part.parse::<u32>().ok());
    // Projects that moved when they broke with their past.
    match (artifact, major) {
        ("okhttp", Some(3..)) => return Some("com.squareup.okhttp3"),
        ("okhttp", Some(_)) => return Some("com.squareup.okhttp"),
        ("rxjava", Some(3..)) => return Some("io.reactivex.rxjava3"),
        ("rxjava", Some(2)) => return Some("io.reactivex.rxjava2"),
        ("rxjava", Some(_)) => return Some("io.reactivex"),
        ("hibernate-core", Some(6..)) => return Some("org.hibernate.orm"),
        ("hibernate-core", Some(_)) => return Some("org.hibernate"),
        ("groovy" | "groovy-all" | "groovy-json" | "groovy-xml", Some(4..)) => {
            return Some("org.apache.groovy");
        }
        ("groovy" | "groovy-all" | "groovy-json" | "groovy-xml", Some(_)) => {
            return Some("org.codehaus.groovy");
        }
        ("dom4j", Some(2..)) => return Some("org.dom4j"),
        ("dom4j", Some(_)) => return Some("dom4j"),
        _ => {}
    }
    let whole = WHOLE.iter().find(|(name, _)| *name == artifact);
    let beginning = || BEGINNINGS.iter().find(|(start, _)| artifact.starts_with(start));
    whole.or_else(beginning).map(|(_, group)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        for (artifact, version, wanted) in [
            ("spring-core", "5.3.1", Some("org.springframework")),
            ("spring-boot", "3.0.0", Some("org.springframework.boot")),
            ("spring-unknown", "1.0", None),
            ("tomcat-embed-core", "9.0.1", Some("org.apache.tomcat.embed")),
            ("tomcat-catalina", "9.0.1", Some("org.apache.tomcat")),
            ("okhttp", "2.7.5", Some("com.squareup.okhttp")),
            ("okhttp", "4.9.0", Some("com.squareup.okhttp3")),
            ("hibernate-core", "6.1.0.Final", Some("org.hibernate.orm")),
            ("hibernate-core", "5.6.0.Final", Some("org.hibernate")),
            ("app", "1.0", None),
        ] {
            assert_eq!(group_of(artifact, version), wanted, "{artifact} {version}");
        }
        for (index, (start, _)) in BEGINNINGS.iter().enumerate() {
            let earlier = &BEGINNINGS[..index];
            assert!(earlier.iter().all(|(other, _)| !start.starts_with(other)), "{start}");
        }
    }
}
