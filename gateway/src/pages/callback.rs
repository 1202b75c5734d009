//! Where a person is sent after they answered an app.

use url::Url;

/// The longest address, in bytes.
const MAX_BYTES: usize = 2048;
/// Schemes that would run something, or lead anywhere but to an app.
const REFUSED_SCHEMES: &[&str] = &[
    "javascript",
    "file",
    "data",
    "mailto",
    "tel",
    "vbscript",
    "blob",
    "about",
    "view-source",
    "filesystem",
];

/// An address that an app may be called back at: a web address, or one of a scheme of the app's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback(Url);

impl Callback {
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_BYTES)?;
        let refused = REFUSED_SCHEMES.contains(&url.scheme());
        let nowhere = matches!(url.scheme(), "http" | "https") && url.host().is_none();
        if refused || nowhere { None } else { Some(Self(url)) }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address with more parameters.
    pub fn with<'a>(&self, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        url.into()
    }

    /// The place as a source of a content policy.
    pub fn source(&self) -> String {
        match self.0.scheme() {
            "http" | "https" => self.0.origin().ascii_serialization(),
            scheme => format!("{scheme}:"),
        }
    }

    /// The place in words.
    pub fn name(&self) -> String {
        match (self.0.scheme(), self.0.host_str()) {
            ("http" | "https", Some(host)) => host.to_owned(),
            (scheme, _) => format!("the app for {scheme}: addresses"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_addresses_and_schemes_of_apps() {
        let with = |text: &str| Callback::parse(text).map(|callback| callback.with([("session", "a b")]));
        assert_eq!(with("https://app.example/cb").as_deref(), Some("https://app.example/cb?session=a+b"));
        assert_eq!(
            with("https://app.example/cb?x=1#f").as_deref(),
            Some("https://app.example/cb?x=1&session=a+b#f")
        );
        assert_eq!(with("miria://miria/auth").as_deref(), Some("miria://miria/auth?session=a+b"));
        assert_eq!(with("aria:callback").as_deref(), Some("aria:callback?session=a+b"));
        let source = |text: &str| Callback::parse(text).map(|callback| callback.source());
        assert_eq!(source("https://app.example:8443/cb").as_deref(), Some("https://app.example:8443"));
        assert_eq!(source("miria://miria/auth").as_deref(), Some("miria:"));
    }

    #[test]
    fn what_is_dangerous_or_nonsense_is_refused() {
        let long = format!("https://app.example/{}", "x".repeat(MAX_BYTES));
        for bad in [
            "javascript:alert(1)",
            "JAVASCRIPT:alert(1)",
            " data:text/html,x",
            "file:///etc/passwd",
            "mailto:a@example.com",
            "tel:1",
            "vbscript:x",
            "blob:https://a/b",
            "/relative",
            "",
            &long,
        ] {
            assert_eq!(Callback::parse(bad), None, "{bad}");
        }
    }
}
