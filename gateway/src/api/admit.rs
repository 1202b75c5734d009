//! Whether a call is let in. The order is part of the API: token, `secure`, limit, credential, moved, role,
//! policy, scope; parameters come after it.

use std::net::IpAddr;
use std::sync::Arc;

use commands::log::Cipher;
use domain::log::Clock;

use super::caller::{Accounts, Credential, SignedIn};
use super::client::{TrustedProxies, network_of};
use super::endpoint::Meta;
use super::error::{
    ACCOUNT_DELETED, ACCOUNT_MOVED, AUTHENTICATION_FAILED, ApiError, PERMISSION_DENIED, POLICY_DENIED,
    RATE_LIMIT_EXCEEDED, SECURE_ONLY,
};
use super::limiter::Limiter;
use super::rate::{Limit, TooOften};
use crate::ops::{
    Apps, Browsers, Challenges, Deliveries, Jobs, OAuth, Passkeys, Passwords, Post, SecondFactors, SecretKey,
    ServerSecrets, SignIns, Subscriptions, Tokens, Webhooks,
};
use crate::webauthn::Site;

/// What the API stands on: who may act, and how often.
pub struct Core {
    pub accounts: Arc<dyn Accounts>,
    pub tokens: Tokens,
    pub passwords: Passwords,
    pub apps: Apps,
    pub browsers: Browsers,
    pub oauth: OAuth,
    pub sign_ins: SignIns,
    pub challenges: Challenges,
    pub second_factors: SecondFactors,
    pub passkeys: Passkeys,
    pub post: Post,
    pub server_secrets: ServerSecrets,
    pub webhooks: Webhooks,
    pub subscriptions: Subscriptions,
    pub deliveries: Deliveries,
    pub jobs: Jobs,
    pub limiter: Limiter,
    pub proxies: TrustedProxies,
    pub clock: Arc<dyn Clock>,
    /// The public origin, such as `https://social.example`.
    pub origin: String,
}

impl Core {
    /// `secret` is for tokens alone, and must stay the same: people keep their tokens by it. So must `cipher`,
    /// which seals their second factors and addresses.
    pub fn new(
        pool: sqlx::PgPool,
        secret: [u8; 32],
        cipher: Cipher,
        origin: String,
        proxies: TrustedProxies,
        accounts: Arc<dyn Accounts>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let key = SecretKey::new(secret);
        let challenges = Challenges::new(pool.clone());
        let cipher = Arc::new(cipher);
        Self {
            accounts,
            tokens: Tokens::new(pool.clone(), key.clone()),
            passwords: Passwords::new(pool.clone()),
            apps: Apps::new(pool.clone(), key.clone()),
            browsers: Browsers::new(pool.clone(), key.clone()),
            oauth: OAuth::new(pool.clone()),
            sign_ins: SignIns::new(pool.clone()),
            second_factors: SecondFactors::new(pool.clone(), cipher.clone()),
            passkeys: Passkeys::new(pool.clone(), challenges.clone(), Site::new(&origin)),
            challenges,
            post: Post::new(pool.clone(), key.clone(), cipher.clone()),
            server_secrets: ServerSecrets::new(pool.clone(), cipher.clone()),
            webhooks: Webhooks::new(pool.clone(), cipher.clone()),
            subscriptions: Subscriptions::new(pool.clone(), key, cipher.clone()),
            deliveries: Deliveries::new(pool.clone()),
            jobs: Jobs::new(pool.clone(), cipher),
            limiter: Limiter::new(pool),
            proxies,
            clock,
            origin,
        }
    }

    /// Who sends this token: nobody without one, an error with a wrong one.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Option<SignedIn>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let Some(grant) = self.tokens.find(token).await? else {
            let erased = self.tokens.was_of_erased(token).await?;
            return Err(if erased { ACCOUNT_DELETED } else { AUTHENTICATION_FAILED }.into());
        };
        let account = self.accounts.account(grant.user).await?.ok_or(AUTHENTICATION_FAILED)?;
        if let Some(app) = &grant.app {
            self.tokens.used(app.id, self.clock.now());
        }
        Ok(Some(SignedIn { account, app: grant.app }))
    }

    /// Whether this caller may call this endpoint now. Counts the call.
    pub async fn admit(
        &self,
        meta: &Meta,
        credential: Credential,
        caller: Option<&SignedIn>,
        client: IpAddr,
    ) -> Result<(), ApiError> {
        let app = caller.and_then(|caller| caller.app.as_ref());
        if meta.secure && (caller.is_none() || app.is_some()) {
            return Err(SECURE_ONLY.into());
        }
        if let Some(limit) = &meta.limit {
            self.count(limit, meta.path, caller, client).await?;
        }
        credential.check_standing(caller)?;
        let account = caller.map(|caller| &caller.account);
        if meta.not_moved && account.is_some_and(|account| account.has_moved) {
            return Err(ACCOUNT_MOVED.into());
        }
        credential.check_role(caller)?;
        if let Some(policy) = meta.policy
            && !account.is_some_and(|account| account.may(policy))
        {
            return Err(POLICY_DENIED.into());
        }
        let in_scope = app.is_none_or(|app| match meta.kind {
            Some(kind) => app.permission.iter().any(|granted| granted == kind),
            None => credential == Credential::None,
        });
        if in_scope { Ok(()) } else { Err(PERMISSION_DENIED.into()) }
    }

    /// Counts a call by an address alone, whoever it says it is.
    pub async fn count_address(
        &self,
        limit: &Limit,
        path: &str,
        client: IpAddr,
    ) -> Result<Result<(), TooOften>, ApiError> {
        let actor = format!("ip-{}", network_of(client));
        Ok(self.limiter.admit(limit, path, &actor, 1.0, self.clock.now()).await?)
    }

    async fn count(
        &self,
        limit: &Limit,
        path: &str,
        caller: Option<&SignedIn>,
        client: IpAddr,
    ) -> Result<(), ApiError> {
        let now = self.clock.now();
        let outcome = match caller.map(|caller| &caller.account) {
            Some(account) if account.rate_limit_factor > 0.0 => {
                let (actor, factor) = (account.id.to_string(), account.rate_limit_factor);
                self.limiter.admit(limit, path, &actor, factor, now).await?
            }
            Some(_) => Ok(()),
            None => self.count_address(limit, path, client).await?,
        };
        outcome.map_err(|early| self.too_often(early))
    }

    /// How a call is refused that came too early.
    pub fn too_often(&self, early: TooOften) -> ApiError {
        let seconds = early.retry_after(self.clock.now());
        let info = serde_json::json!({
            "remaining": 0,
            "reset": early.reset_ms.div_euclid(1_000),
            "resetMs": early.reset_ms,
            "total": whole_if_it_is(early.total),
        });
        ApiError::from(RATE_LIMIT_EXCEEDED).info(info).retry_after(seconds)
    }
}

fn whole_if_it_is(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 { (number as i64).into() } else { number.into() }
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use commands::log::Keyring;
    use domain::ids::UserId;
    use domain::instance::Policies;
    use serde_json::{Map, json};
    use uuid::Uuid;

    use super::*;
    use crate::api::caller::Account;
    use crate::api::error::{
        ACCOUNT_DELETED, ACCOUNT_SUSPENDED, CREDENTIAL_REQUIRED, ErrorDef, NOT_ADMINISTRATOR, NOT_MODERATOR,
    };
    use crate::api::per;
    use crate::ops::tokens::AppGrant;

    #[derive(Default)]
    struct People(Mutex<HashMap<UserId, Arc<Account>>>);

    #[async_trait]
    impl Accounts for People {
        async fn account(&self, id: UserId) -> Result<Option<Arc<Account>>, ApiError> {
            Ok(self.0.lock().unwrap().get(&id).cloned())
        }

        async fn named(&self, username: &str) -> Result<Option<Arc<Account>>, ApiError> {
            let people = self.0.lock().unwrap();
            Ok(people.values().find(|account| account.username.eq_ignore_ascii_case(username)).cloned())
        }

        async fn usual_policies(&self) -> Result<Arc<Policies>, ApiError> {
            Ok(Arc::default())
        }
    }

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> DateTime<Utc> {
            DateTime::from_timestamp(1_700_000_000, 0).unwrap()
        }
    }

    /// A core over a database that isn't reached unless a token is looked up.
    pub fn core() -> Core {
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        core_over(pool, Vec::new())
    }

    pub fn core_over(pool: sqlx::PgPool, accounts: Vec<Account>) -> Core {
        let known = accounts.into_iter().map(|account| (account.id, Arc::new(account))).collect();
        let people = Arc::new(People(Mutex::new(known)));
        let cipher = Keyring::memory().cipher("test");
        let origin = "http://local".to_owned();
        Core::new(pool, [1; 32], cipher, origin, TrustedProxies::default(), people, Arc::new(Noon))
    }

    pub fn account(change: impl FnOnce(&mut Account)) -> Account {
        let mut account = Account {
            id: UserId(Uuid::from_u128(1)),
            username: "alice".to_owned(),
            is_root: false,
            is_administrator: false,
            is_moderator: false,
            is_suspended: false,
            is_deleted: false,
            has_moved: false,
            rate_limit_factor: 1.0,
            roles: Vec::new(),
            policies: Arc::new(Map::new()),
        };
        change(&mut account);
        account
    }

    pub fn person(change: impl FnOnce(&mut Account)) -> SignedIn {
        SignedIn { account: Arc::new(account(change)), app: None }
    }

    fn by_app(mut person: SignedIn, permission: &[&str]) -> SignedIn {
        let permission = permission.iter().map(|kind| (*kind).to_owned()).collect();
        person.app = Some(Arc::new(AppGrant { id: Uuid::nil(), permission }));
        person
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const PLAIN: Meta = Meta::new("x");

    async fn refused(meta: &Meta, credential: Credential, caller: Option<&SignedIn>) -> Option<ErrorDef> {
        core().admit(meta, credential, caller, CLIENT).await.err().map(|error| error.def())
    }

    #[tokio::test]
    async fn each_credential_lets_in_its_own_and_above() {
        use Credential::{Administrator, Moderator, SignedIn};
        let nobody: Option<&super::SignedIn> = None;
        let plain = person(|_| ());
        let moderator = person(|a| a.is_moderator = true);
        let administrator = person(|a| a.is_administrator = true);
        let root = person(|a| a.is_root = true);
        let expected = [
            (Credential::None, nobody, None),
            (SignedIn, nobody, Some(CREDENTIAL_REQUIRED)),
            (Administrator, nobody, Some(CREDENTIAL_REQUIRED)),
            (SignedIn, Some(&plain), None),
            (Moderator, Some(&plain), Some(NOT_MODERATOR)),
            (Moderator, Some(&moderator), None),
            (Administrator, Some(&moderator), Some(NOT_ADMINISTRATOR)),
            (Moderator, Some(&administrator), None),
            (Administrator, Some(&administrator), None),
            (Administrator, Some(&root), None),
        ];
        for (credential, caller, error) in expected {
            assert_eq!(refused(&PLAIN, credential, caller).await, error, "{credential:?} {caller:?}");
        }
    }

    #[tokio::test]
    async fn a_suspended_or_deleted_person_is_nobody_but_not_shut_out() {
        let suspended = person(|a| a.is_suspended = true);
        let deleted = person(|a| a.is_deleted = true);
        assert_eq!(refused(&PLAIN, Credential::SignedIn, Some(&suspended)).await, Some(ACCOUNT_SUSPENDED));
        assert_eq!(refused(&PLAIN, Credential::SignedIn, Some(&deleted)).await, Some(ACCOUNT_DELETED));
        assert_eq!(refused(&PLAIN, Credential::None, Some(&suspended)).await, None);
    }

    #[tokio::test]
    async fn an_app_needs_the_scope_and_never_gets_what_is_secure() {
        const NOTES: Meta = Meta::new("x").kind("write:notes");
        let app = by_app(person(|_| ()), &["write:notes"]);
        let other = by_app(person(|_| ()), &["read:account"]);
        assert_eq!(refused(&NOTES, Credential::SignedIn, Some(&app)).await, None);
        assert_eq!(refused(&NOTES, Credential::SignedIn, Some(&other)).await, Some(PERMISSION_DENIED));
        assert_eq!(refused(&NOTES, Credential::None, Some(&other)).await, Some(PERMISSION_DENIED));
        assert_eq!(refused(&PLAIN, Credential::SignedIn, Some(&app)).await, Some(PERMISSION_DENIED));
        assert_eq!(refused(&PLAIN, Credential::None, Some(&app)).await, None);
        assert_eq!(refused(&PLAIN.secure(), Credential::SignedIn, Some(&app)).await, Some(SECURE_ONLY));
        assert_eq!(refused(&PLAIN.secure(), Credential::SignedIn, None).await, Some(SECURE_ONLY));
        assert_eq!(refused(&PLAIN.secure(), Credential::SignedIn, Some(&person(|_| ()))).await, None);
        // The role is asked before the scope.
        assert_eq!(refused(&PLAIN, Credential::Administrator, Some(&app)).await, Some(NOT_ADMINISTRATOR));
    }

    #[tokio::test]
    async fn policies_and_moves_are_asked() {
        let asked = PLAIN.role("canSearchNotes");
        let may = |yes: bool| {
            let policies = json!({ "canSearchNotes": yes }).as_object().cloned().unwrap();
            person(|a| a.policies = Arc::new(policies))
        };
        assert_eq!(refused(&asked, Credential::SignedIn, Some(&may(true))).await, None);
        assert_eq!(refused(&asked, Credential::SignedIn, Some(&may(false))).await, Some(POLICY_DENIED));
        assert_eq!(refused(&asked, Credential::SignedIn, Some(&person(|a| a.is_root = true))).await, None);
        let moved = person(|a| a.has_moved = true);
        assert_eq!(
            refused(&PLAIN.not_moved(), Credential::SignedIn, Some(&moved)).await,
            Some(ACCOUNT_MOVED)
        );
        assert_eq!(refused(&PLAIN, Credential::SignedIn, Some(&moved)).await, None);
    }

    #[tokio::test]
    async fn the_limit_comes_before_the_credential_and_can_be_lifted() {
        let core = core();
        let limited = PLAIN.limit(1, per::HOUR);
        let call = async |caller: Option<&SignedIn>| {
            core.admit(&limited, Credential::SignedIn, caller, CLIENT).await
        };
        assert_eq!(call(None).await.unwrap_err().def(), CREDENTIAL_REQUIRED);
        let error = call(None).await.unwrap_err();
        assert_eq!(error.def(), RATE_LIMIT_EXCEEDED);
        assert_eq!(error.headers()["retry-after"], "3600");
        let told = &error.to_json()["error"]["info"];
        assert_eq!((&told["remaining"], &told["total"]), (&json!(0), &json!(1)));

        let person = person(|_| ());
        assert!(call(Some(&person)).await.is_ok(), "counted apart from their address");
        assert_eq!(call(Some(&person)).await.unwrap_err().def(), RATE_LIMIT_EXCEEDED);
        let free = tests::person(|a| {
            a.id = UserId(Uuid::from_u128(2));
            a.rate_limit_factor = 0.0;
        });
        for _ in 0..3 {
            assert!(call(Some(&free)).await.is_ok());
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_token_speaks_for_its_account_and_a_wrong_one_for_nobody(pool: sqlx::PgPool) {
        let core = core_over(pool, vec![account(|_| ())]);
        let id = UserId(Uuid::from_u128(1));
        let token = core.tokens.native(id, Noon.now()).await.unwrap();
        let caller = core.authenticate(Some(&token)).await.unwrap().unwrap();
        assert_eq!((caller.id(), caller.app), (id, None));
        assert!(core.authenticate(None).await.unwrap().is_none());
        let stranger = core.tokens.native(UserId(Uuid::from_u128(9)), Noon.now()).await.unwrap();
        for wrong in ["", "short", &stranger] {
            let error = core.authenticate(Some(wrong)).await.unwrap_err();
            assert_eq!(error.def(), AUTHENTICATION_FAILED, "{wrong}");
        }
    }
}
