//! The kinds of permission that a person can give to an app.

/// Every kind, sorted.
pub const KINDS: &[&str] = &[
    "read:account",
    "read:admin:abuse-report-resolvers",
    "read:admin:abuse-report:notification-recipient",
    "read:admin:abuse-user-reports",
    "read:admin:account",
    "read:admin:ad",
    "read:admin:announcements",
    "read:admin:avatar-decorations",
    "read:admin:drive",
    "read:admin:emoji",
    "read:admin:index-stats",
    "read:admin:indie-auth",
    "read:admin:invite-codes",
    "read:admin:meta",
    "read:admin:queue",
    "read:admin:relays",
    "read:admin:roles",
    "read:admin:show-account-move-log",
    "read:admin:show-moderation-log",
    "read:admin:show-user",
    "read:admin:sso",
    "read:admin:system-webhook",
    "read:admin:table-stats",
    "read:admin:user-ips",
    "read:blocks",
    "read:channels",
    "read:clip-favorite",
    "read:drive",
    "read:favorites",
    "read:federation",
    "read:flash",
    "read:flash-likes",
    "read:following",
    "read:gallery",
    "read:gallery-likes",
    "read:invite-codes",
    "read:mutes",
    "read:notifications",
    "read:page-likes",
    "read:pages",
    "write:account",
    "write:admin:abuse-report-resolvers",
    "write:admin:abuse-report:notification-recipient",
    "write:admin:account",
    "write:admin:ad",
    "write:admin:announcements",
    "write:admin:avatar-decorations",
    "write:admin:drive",
    "write:admin:emoji",
    "write:admin:federation",
    "write:admin:indie-auth",
    "write:admin:invite-codes",
    "write:admin:meta",
    "write:admin:promo",
    "write:admin:queue",
    "write:admin:regenerate-user-token",
    "write:admin:relays",
    "write:admin:reset-password",
    "write:admin:resolve-abuse-user-report",
    "write:admin:roles",
    "write:admin:send-email",
    "write:admin:sso",
    "write:admin:suspend-user",
    "write:admin:system-webhook",
    "write:admin:unsuspend-user",
    "write:admin:user-avatar",
    "write:admin:user-banner",
    "write:admin:user-mutual-link",
    "write:admin:user-name",
    "write:admin:user-note",
    "write:blocks",
    "write:channels",
    "write:clip-favorite",
    "write:drive",
    "write:favorites",
    "write:flash",
    "write:flash-likes",
    "write:following",
    "write:gallery",
    "write:gallery-likes",
    "write:invite-codes",
    "write:mutes",
    "write:notes",
    "write:notifications",
    "write:page-likes",
    "write:pages",
    "write:reactions",
    "write:report-abuse",
    "write:votes",
];

/// The known kinds among those asked for, each once, in the order of the list.
pub fn known(asked: &[String]) -> Vec<String> {
    KINDS.iter().filter(|kind| asked.iter().any(|a| a == *kind)).map(|kind| (*kind).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_sorted_and_unknown_ones_are_dropped() {
        assert!(KINDS.is_sorted());
        let asked = ["write:notes", "nonsense", "read:account", "read:account"].map(str::to_owned);
        assert_eq!(known(&asked), ["read:account", "write:notes"]);
    }
}
