//! The server itself: its address, its first administrator, its settings and default policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Payload;
use crate::ids::UserId;
use crate::log::StreamId;
use crate::{Event, Fold};

use Kind::{Flag, List, OneOf, OptionalText, OptionalWhole, Table, Text, Whole};

/// The longest text of a setting, in characters; a list or a table may have as many bytes.
pub const MAX_SETTING_CHARS: usize = 65_536;
/// The most items of a list in a setting.
pub const MAX_SETTING_ITEMS: usize = 4_096;

/// The one stream of the server itself.
pub fn stream() -> StreamId {
    StreamId::new("instance", "0")
}

/// `instance.claimed`: the log belongs to the server at this address, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Scheme and authority, without a path: `https://example.com`.
    pub url: String,
}

/// `instance.rooted`: the first account, which administers the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rooted {
    pub root: UserId,
}

/// `instance.settings_changed`: only what differs, by the names of Misskey's `admin/update-meta`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingsChanged {
    pub changes: BTreeMap<String, Value>,
}

/// `instance.policies_changed`: the policies of everybody without a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoliciesChanged {
    pub changes: BTreeMap<String, Value>,
}

macro_rules! of_the_server {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                None
            }
        }
    )*};
}
of_the_server!(Claimed, Rooted, SettingsChanged, PoliciesChanged);

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Flag,
    Whole,
    OptionalWhole,
    Text,
    OptionalText,
    OneOf(&'static [&'static str]),
    /// Of texts or objects; null empties it.
    List,
    Table,
}

/// Every setting: name, kind, default as JSON. Secrets are not settings: they never enter the log.
#[rustfmt::skip]
pub const SETTINGS: &[(&str, Kind, &str)] = &[
    ("disableRegistration", Flag, "true"),
    ("pinnedUsers", List, "[]"),
    ("hiddenTags", List, "[]"),
    ("blockedHosts", List, "[]"),
    ("sensitiveWords", List, "[]"),
    ("prohibitedWords", List, "[]"),
    ("themeColor", OptionalText, "null"),
    ("mascotImageUrl", OptionalText, "null"),
    ("bannerUrl", OptionalText, "null"),
    ("serverErrorImageUrl", OptionalText, "null"),
    ("infoImageUrl", OptionalText, "null"),
    ("notFoundImageUrl", OptionalText, "null"),
    ("iconUrl", OptionalText, "null"),
    ("app192IconUrl", OptionalText, "null"),
    ("app512IconUrl", OptionalText, "null"),
    ("backgroundImageUrl", OptionalText, "null"),
    ("logoImageUrl", OptionalText, "null"),
    ("name", OptionalText, "null"),
    ("shortName", OptionalText, "null"),
    ("description", OptionalText, "null"),
    ("defaultLightTheme", OptionalText, "null"),
    ("defaultDarkTheme", OptionalText, "null"),
    ("clientOptions", Table, "{}"),
    ("cacheRemoteFiles", Flag, "false"),
    ("cacheRemoteSensitiveFiles", Flag, "true"),
    ("emailRequiredForSignup", Flag, "false"),
    ("enableHcaptcha", Flag, "false"),
    ("hcaptchaSiteKey", OptionalText, "null"),
    ("enableMcaptcha", Flag, "false"),
    ("mcaptchaSiteKey", OptionalText, "null"),
    ("mcaptchaInstanceUrl", OptionalText, "null"),
    ("enableRecaptcha", Flag, "false"),
    ("recaptchaSiteKey", OptionalText, "null"),
    ("enableTurnstile", Flag, "false"),
    ("turnstileSiteKey", OptionalText, "null"),
    ("sensitiveMediaDetection", OneOf(&["none", "all", "local", "remote"]), r#""none""#),
    ("sensitiveMediaDetectionSensitivity", OneOf(&["medium", "low", "high", "veryLow", "veryHigh"]), r#""medium""#),
    ("setSensitiveFlagAutomatically", Flag, "false"),
    ("enableSensitiveMediaDetectionForVideos", Flag, "false"),
    ("maintainerName", OptionalText, "null"),
    ("maintainerEmail", OptionalText, "null"),
    ("langs", List, "[]"),
    ("deeplIsPro", Flag, "false"),
    ("enableEmail", Flag, "false"),
    ("email", OptionalText, "null"),
    ("smtpSecure", Flag, "false"),
    ("smtpHost", OptionalText, "null"),
    ("smtpPort", OptionalWhole, "null"),
    ("smtpUser", OptionalText, "null"),
    ("enableServiceWorker", Flag, "false"),
    ("swPublicKey", OptionalText, "null"),
    ("tosUrl", OptionalText, "null"),
    ("repositoryUrl", OptionalText, "null"),
    ("feedbackUrl", OptionalText, "null"),
    ("impressumUrl", OptionalText, "null"),
    ("privacyPolicyUrl", OptionalText, "null"),
    ("useObjectStorage", Flag, "false"),
    ("objectStorageBaseUrl", OptionalText, "null"),
    ("objectStorageBucket", OptionalText, "null"),
    ("objectStoragePrefix", OptionalText, "null"),
    ("objectStorageEndpoint", OptionalText, "null"),
    ("objectStorageRegion", OptionalText, "null"),
    ("objectStoragePort", OptionalWhole, "null"),
    ("objectStorageUseSSL", Flag, "true"),
    ("objectStorageUseProxy", Flag, "true"),
    ("objectStorageSetPublicRead", Flag, "false"),
    ("objectStorageS3ForcePathStyle", Flag, "true"),
    ("enableIpLogging", Flag, "false"),
    ("enableActiveEmailValidation", Flag, "true"),
    ("enableVerifymailApi", Flag, "false"),
    ("enableTruemailApi", Flag, "false"),
    ("truemailInstance", OptionalText, "null"),
    ("enableChartsForRemoteUser", Flag, "true"),
    ("enableChartsForFederatedInstances", Flag, "true"),
    ("enableServerMachineStats", Flag, "false"),
    ("enableIdenticonGeneration", Flag, "true"),
    ("serverRules", List, "[]"),
    ("bannedEmailDomains", List, "[]"),
    ("preservedUsernames", List, r#"["admin","administrator","root","system","maintainer","host","mod","moderator","owner","superuser","staff","auth","i","me","everyone","all","mention","mentions","example","user","users","account","accounts","official","help","helps","support","supports","info","information","informations","announce","announces","announcement","announcements","notice","notification","notifications","dev","developer","developers","tech","misskey"]"#),
    ("manifestJsonOverride", Text, r#""{}""#),
    ("enableFanoutTimeline", Flag, "true"),
    ("enableFanoutTimelineDbFallback", Flag, "true"),
    ("perLocalUserUserTimelineCacheMax", Whole, "300"),
    ("perRemoteUserUserTimelineCacheMax", Whole, "100"),
    ("perUserHomeTimelineCacheMax", Whole, "300"),
    ("perUserListTimelineCacheMax", Whole, "300"),
    ("notesPerOneAd", Whole, "0"),
    ("silencedHosts", List, "[]"),
    ("summalyProxy", OptionalText, "null"),
    ("urlPreviewEnabled", Flag, "true"),
    ("urlPreviewAllowRedirect", Flag, "true"),
    ("urlPreviewTimeout", Whole, "10000"),
    ("urlPreviewMaximumContentLength", Whole, "10485760"),
    ("urlPreviewRequireContentLength", Flag, "false"),
    ("urlPreviewUserAgent", OptionalText, "null"),
    ("urlPreviewSummaryProxyUrl", OptionalText, "null"),
    ("prohibitedWordsForNameOfUser", List, "[]"),
    ("federation", OneOf(&["all", "none", "specified"]), r#""none""#),
    ("federationHosts", List, "[]"),
    ("deliverSuspendedSoftware", List, "[]"),
    ("singleUserMode", Flag, "false"),
    ("ugcVisibilityForVisitor", OneOf(&["all", "local", "none"]), r#""local""#),
    ("proxyRemoteFiles", Flag, "false"),
    ("signToActivityPubGet", Flag, "true"),
    ("allowExternalApRedirect", Flag, "true"),
    ("enableRemoteNotesCleaning", Flag, "false"),
    ("remoteNotesCleaningExpiryDaysForEachNotes", Whole, "90"),
    ("remoteNotesCleaningMaxProcessingDurationInMinutes", Whole, "60"),
    ("showRoleBadgesOfRemoteUsers", Flag, "false"),
];

/// Every policy with its default as JSON, by Misskey's names.
#[rustfmt::skip]
pub const POLICIES: &[(&str, &str)] = &[
    ("gtlAvailable", "true"),
    ("ltlAvailable", "true"),
    ("canPublicNote", "true"),
    ("mentionLimit", "20"),
    ("canInvite", "false"),
    ("inviteLimit", "0"),
    ("inviteLimitCycle", "10080"),
    ("inviteExpirationTime", "0"),
    ("canManageCustomEmojis", "false"),
    ("canManageAvatarDecorations", "false"),
    ("canSearchNotes", "false"),
    ("canSearchUsers", "true"),
    ("canUseTranslator", "true"),
    ("canHideAds", "false"),
    ("driveCapacityMb", "100"),
    ("maxFileSizeMb", "30"),
    ("alwaysMarkNsfw", "false"),
    ("canUpdateBioMedia", "true"),
    ("pinLimit", "5"),
    ("antennaLimit", "5"),
    ("wordMuteLimit", "200"),
    ("webhookLimit", "3"),
    ("clipLimit", "10"),
    ("noteEachClipsLimit", "200"),
    ("userListLimit", "10"),
    ("userEachUserListsLimit", "50"),
    ("rateLimitFactor", "1"),
    ("avatarDecorationLimit", "1"),
    ("canImportAntennas", "true"),
    ("canImportBlocking", "true"),
    ("canImportFollowing", "true"),
    ("canImportMuting", "true"),
    ("canImportUserLists", "true"),
    ("chatAvailability", r#""available""#),
    ("uploadableFileTypes", r#"["text/*","application/json","image/*","video/*","audio/*"]"#),
    ("noteDraftLimit", "10"),
    ("canScheduleNote", "true"),
    ("scheduleNoteLimit", "10"),
    ("scheduleNoteMaxDays", "365"),
    ("watermarkAvailable", "true"),
];

/// The settings in force: defaults with the changes laid over.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(BTreeMap<String, Value>);

/// The policies in force for everybody without a role.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies(BTreeMap<String, Value>);

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

impl Default for Settings {
    fn default() -> Self {
        Self(SETTINGS.iter().map(|(name, _, default)| ((*name).to_owned(), json(default))).collect())
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self(POLICIES.iter().map(|(name, default)| ((*name).to_owned(), json(default))).collect())
    }
}

impl Settings {
    /// Defaults with stored changes laid over.
    pub fn with(changes: BTreeMap<String, Value>) -> Self {
        let mut settings = Self::default();
        settings.0.extend(changes);
        settings
    }

    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or(false)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    /// A list of texts.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    pub fn registration_is_closed(&self) -> bool {
        self.flag("disableRegistration")
    }

    /// Whether visitors may make accounts. There is no mail yet to confirm an address with, so a server
    /// that asks for one takes nobody.
    pub fn takes_visitors(&self) -> bool {
        !self.registration_is_closed() && !self.flag("emailRequiredForSignup")
    }

    /// Whether other servers may speak with this one at all.
    pub fn federates(&self) -> bool {
        self.text("federation") != Some("none")
    }
}

impl Policies {
    /// Defaults with stored changes laid over.
    pub fn with(changes: BTreeMap<String, Value>) -> Self {
        let mut policies = Self::default();
        policies.0.extend(changes);
        policies
    }

    pub fn all(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether there is a policy of that name, and the value is of its type.
    pub fn takes(name: &str, value: &Value) -> bool {
        POLICIES.iter().any(|(known, default)| *known == name && same_type(&json(default), value))
    }

    pub fn allows(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// What rate limits are multiplied by; 0 turns them off for those who are signed in.
    pub fn rate_limit_factor(&self) -> f64 {
        self.0.get("rateLimitFactor").and_then(Value::as_f64).unwrap_or(1.0)
    }

    /// People one note may mention.
    pub fn mention_limit(&self) -> usize {
        self.0.get("mentionLimit").and_then(Value::as_u64).unwrap_or(0) as usize
    }
}

/// The server, folded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instance {
    pub url: Option<String>,
    pub root: Option<UserId>,
    pub settings: Settings,
    pub policies: Policies,
}

impl Fold for Instance {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::InstanceClaimed(e) => self.url = Some(e.url.clone()),
            Event::InstanceRooted(e) => self.root = Some(e.root),
            Event::SettingsChanged(e) => self.settings.0.extend(e.changes.clone()),
            Event::PoliciesChanged(e) => self.policies.0.extend(e.changes.clone()),
            _ => (),
        }
    }
}

/// The log belongs to another address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this data belongs to {claimed}; a server can't change its address")]
pub struct AddressDiffers {
    pub claimed: String,
}

/// There is a first account already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the first account exists")]
pub struct AlreadyRooted;

/// A change that the setting or policy does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotSet {
    /// The name, and what its value must be, as a JSON-schema word.
    #[error("{name} must be {must_be}")]
    Wrong { name: String, must_be: &'static str },
    #[error("{name} is too large")]
    TooLarge { name: String },
}

/// Claims the log for an address, once.
pub fn claim(current: &Instance, url: &str) -> Result<Vec<Event>, AddressDiffers> {
    match &current.url {
        None => Ok(vec![Claimed { url: url.to_owned() }.into()]),
        Some(claimed) if claimed == url => Ok(Vec::new()),
        Some(claimed) => Err(AddressDiffers { claimed: claimed.clone() }),
    }
}

/// Makes an account the first administrator, once. One that never came to be (`root_exists` is false)
/// leaves the place free.
pub fn root(current: &Instance, user: UserId, root_exists: bool) -> Result<Vec<Event>, AlreadyRooted> {
    match current.root {
        Some(root) if root == user => Ok(Vec::new()),
        Some(_) if root_exists => Err(AlreadyRooted),
        _ => Ok(vec![Rooted { root: user }.into()]),
    }
}

/// Decides a change of settings. Names that are not settings are passed over, as Misskey does.
pub fn change_settings(current: &Instance, asked: BTreeMap<String, Value>) -> Result<Vec<Event>, CannotSet> {
    let mut changes = BTreeMap::new();
    for (name, value) in asked {
        let Some((_, kind, _)) = SETTINGS.iter().find(|(known, ..)| *known == name) else { continue };
        let value = parse(&name, *kind, value)?;
        if *current.settings.get(&name) != value {
            changes.insert(name, value);
        }
    }
    Ok(if changes.is_empty() { Vec::new() } else { vec![SettingsChanged { changes }.into()] })
}

/// Decides a change of the default policies. Unknown names and values of another type than the
/// default's are passed over, as Misskey does.
pub fn change_policies(current: &Instance, asked: BTreeMap<String, Value>) -> Vec<Event> {
    let changes: BTreeMap<String, Value> = asked
        .into_iter()
        .filter(|(name, value)| Policies::takes(name, value) && current.policies.0.get(name) != Some(value))
        .collect();
    if changes.is_empty() { Vec::new() } else { vec![PoliciesChanged { changes }.into()] }
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn parse(name: &str, kind: Kind, value: Value) -> Result<Value, CannotSet> {
    let wrong = |must_be| Err(CannotSet::Wrong { name: name.to_owned(), must_be });
    let large = || Err(CannotSet::TooLarge { name: name.to_owned() });
    match (kind, value) {
        (Flag, value @ Value::Bool(_)) => Ok(value),
        (Flag, _) => wrong("boolean"),
        (OptionalWhole | OptionalText, Value::Null) => Ok(Value::Null),
        (Whole | OptionalWhole, Value::Number(number)) if number.is_i64() => Ok(Value::Number(number)),
        (Whole, _) => wrong("integer"),
        (OptionalWhole, _) => wrong("integer,null"),
        (Text | OptionalText, Value::String(text)) => {
            if text.chars().count() > MAX_SETTING_CHARS {
                large()
            } else {
                Ok(Value::String(text))
            }
        }
        (Text, _) => wrong("string"),
        (OptionalText, _) => wrong("string,null"),
        (OneOf(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(Value::String(text)),
        (OneOf(_), _) => wrong("equal to one of the allowed values"),
        (List, Value::Null) => Ok(Value::Array(Vec::new())),
        (List, Value::Array(items)) if items.iter().all(|item| item.is_string() || item.is_object()) => {
            let bytes: usize = items.iter().filter_map(Value::as_str).map(str::len).sum();
            if items.len() > MAX_SETTING_ITEMS || bytes > MAX_SETTING_CHARS {
                return large();
            }
            // Misskey drops empty lines of lists that are edited as text.
            Ok(Value::Array(items.into_iter().filter(|item| item.as_str() != Some("")).collect()))
        }
        (List, _) => wrong("array"),
        (Table, value @ Value::Object(_)) => {
            if value.to_string().len() > MAX_SETTING_CHARS {
                large()
            } else {
                Ok(value)
            }
        }
        (Table, _) => wrong("object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::user;
    use serde_json::json;

    fn changed(name: &str, value: Value) -> Result<Instance, CannotSet> {
        let mut instance = Instance::default();
        let events = change_settings(&instance, BTreeMap::from([(name.to_owned(), value)]))?;
        events.iter().for_each(|event| instance.apply(event));
        Ok(instance)
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for (name, kind, default) in SETTINGS {
            let default: Value = serde_json::from_str(default).unwrap();
            assert_eq!(parse(name, *kind, default.clone()), Ok(default), "{name}");
        }
        for (name, default) in POLICIES {
            assert!(serde_json::from_str::<Value>(default).is_ok(), "{name}");
        }
    }

    #[test]
    fn no_secret_is_a_setting() {
        for (name, ..) in SETTINGS {
            for word in ["Secret", "Pass", "PrivateKey", "AuthKey", "AccessKey"] {
                assert!(!name.contains(word), "{name}");
            }
        }
    }

    #[test]
    fn the_address_is_claimed_once() {
        let events = claim(&Instance::default(), "https://a.example").unwrap();
        let claimed = Instance::of(&events);
        assert_eq!(claim(&claimed, "https://a.example"), Ok(Vec::new()));
        assert!(claim(&claimed, "https://b.example").is_err());
    }

    #[test]
    fn there_is_one_first_account() {
        let rooted = Instance::of(&root(&Instance::default(), user(1), false).unwrap());
        assert_eq!(rooted.root, Some(user(1)));
        assert_eq!(root(&rooted, user(2), true), Err(AlreadyRooted));
        assert_eq!(Instance::of(&root(&rooted, user(2), false).unwrap()).root, Some(user(2)));
    }

    #[test]
    fn settings_take_values_of_their_kind_only() {
        assert_eq!(changed("name", json!("Kiroku")).unwrap().settings.text("name"), Some("Kiroku"));
        assert_eq!(changed("hiddenTags", Value::Null).unwrap(), Instance::default());
        assert!(changed("disableRegistration", json!("no")).is_err());
        assert!(changed("federation", json!("some")).is_err());
        assert_eq!(changed("noSuchSetting", json!(1)).unwrap(), Instance::default());
        assert!(changed("federation", json!("all")).unwrap().settings.federates());
        assert!(Settings::default().registration_is_closed() && !Settings::default().federates());
        let open = changed("disableRegistration", json!(false)).unwrap().settings;
        assert!(open.takes_visitors() && !Settings::default().takes_visitors());
        let email = Settings::with(BTreeMap::from([
            ("disableRegistration".to_owned(), json!(false)),
            ("emailRequiredForSignup".to_owned(), json!(true)),
        ]));
        assert!(!email.takes_visitors());
    }

    #[test]
    fn policies_take_values_of_their_type_only() {
        let asked = [("mentionLimit", json!(5)), ("canInvite", json!("yes")), ("noSuch", json!(true))];
        let asked = asked.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut instance = Instance::default();
        change_policies(&instance, asked).iter().for_each(|event| instance.apply(event));
        assert_eq!(instance.policies.mention_limit(), 5);
        assert!(!instance.policies.allows("canInvite"));
    }
}
