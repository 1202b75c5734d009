//! Passkeys, made by an authenticator without a browser: what it answers is taken only for the question, the
//! site and the person that it is for.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use ciborium::Value as Cbor;
use gateway::webauthn::{Assertion, Checked, Credential, NotTaken, Site, check, register};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, from_value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, PASSWORD, TestApp};
use crate::second_factor;

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const HAS_CREDENTIAL: u8 = 0x40;
const ORIGIN: &str = "https://social.example";

/// One credential on one device.
pub struct Authenticator {
    key: EcdsaKeyPair,
    pub id: Vec<u8>,
    pub site: Site,
    pub sign_count: u32,
    pub flags: u8,
    pub user_handle: Option<String>,
}

impl Authenticator {
    pub fn new(origin: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self {
            id: key.public_key().as_ref()[1..17].to_vec(),
            key,
            site: Site::new(origin),
            sign_count: 0,
            flags: PRESENT | VERIFIED,
            user_handle: None,
        }
    }

    fn client_data(&self, purpose: &str, challenge: &str) -> Vec<u8> {
        let said = json!({ "type": purpose, "challenge": challenge, "origin": self.site.origin });
        said.to_string().into_bytes()
    }

    fn head(&self, flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest(self.site.id.as_bytes()).to_vec();
        data.push(self.flags | flags);
        data.extend(self.sign_count.to_be_bytes());
        data
    }

    /// Answers the question of a registration.
    pub fn register(&self, challenge: &str) -> Value {
        let point = self.key.public_key().as_ref();
        let key = Cbor::Map(vec![
            (1.into(), 2.into()),
            (3.into(), (-7).into()),
            ((-1).into(), 1.into()),
            ((-2).into(), Cbor::Bytes(point[1..33].to_vec())),
            ((-3).into(), Cbor::Bytes(point[33..].to_vec())),
        ]);
        let mut data = self.head(HAS_CREDENTIAL);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        ciborium::into_writer(&key, &mut data).unwrap();
        let object = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&object, &mut bytes).unwrap();
        let id = BASE64_URL_SAFE_NO_PAD.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": {
            "clientDataJSON": BASE64_URL_SAFE_NO_PAD.encode(self.client_data("webauthn.create", challenge)),
            "attestationObject": BASE64_URL_SAFE_NO_PAD.encode(bytes),
            "transports": ["internal"],
        }})
    }

    /// Answers the question of a sign-in.
    pub fn sign_in(&mut self, challenge: &str) -> Value {
        self.sign_count += 1;
        let (client, data) = (self.client_data("webauthn.get", challenge), self.head(0));
        let signed = [data.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        let id = BASE64_URL_SAFE_NO_PAD.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": {
            "clientDataJSON": BASE64_URL_SAFE_NO_PAD.encode(client),
            "authenticatorData": BASE64_URL_SAFE_NO_PAD.encode(data),
            "signature": BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()),
            "userHandle": self.user_handle.as_deref().map(|user| BASE64_URL_SAFE_NO_PAD.encode(user)),
        }})
    }
}

fn encoded(challenge: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(challenge)
}

fn registered(device: &Authenticator, site: &Site) -> Result<Credential, NotTaken> {
    register(site, b"question", &from_value(device.register(&encoded(b"question"))).unwrap())
}

#[test]
fn a_passkey_is_made_and_lets_in() {
    let (mut device, site) = (Authenticator::new(ORIGIN), Site::new(ORIGIN));
    let made = registered(&device, &site).unwrap();
    assert_eq!(
        (&made.id, made.sign_count, made.transports.as_slice()),
        (&device.id, 0, &["internal".to_owned()][..])
    );
    let answer: Assertion = from_value(device.sign_in(&encoded(b"in"))).unwrap();
    assert_eq!(answer.credential_id().as_ref(), Some(&made.id));
    let checked = check(&site, b"in", &answer, &made.public_key, 0).unwrap();
    assert_eq!(checked, Checked { sign_count: 1, is_backed_up: false, user_verified: true });
    assert_eq!(check(&site, b"in", &answer, &made.public_key, 1), Err(NotTaken::Copied));
    assert_eq!(check(&site, b"other", &answer, &made.public_key, 0), Err(NotTaken::Other));
}

#[test]
fn what_is_for_another_site_or_purpose_is_not_taken() {
    let (mut device, site) = (Authenticator::new("https://evil.example"), Site::new(ORIGIN));
    assert_eq!(registered(&device, &site), Err(NotTaken::Other));
    device.site.origin = ORIGIN.to_owned();
    assert_eq!(registered(&device, &site), Err(NotTaken::Other), "the site's hash is another's");
    device.site = site.clone();
    let made = registered(&device, &site).unwrap();
    let create: Assertion = {
        let mut answer = device.sign_in(&encoded(b"in"));
        answer["response"]["clientDataJSON"] =
            device.register(&encoded(b"in"))["response"]["clientDataJSON"].clone();
        from_value(answer).unwrap()
    };
    assert_eq!(check(&site, b"in", &create, &made.public_key, 0), Err(NotTaken::Other));
    let other = registered(&Authenticator::new(ORIGIN), &site).unwrap();
    let answer: Assertion = from_value(device.sign_in(&encoded(b"in"))).unwrap();
    assert_eq!(check(&site, b"in", &answer, &other.public_key, 0), Err(NotTaken::Signature));
    device.flags = 0;
    let answer: Assertion = from_value(device.sign_in(&encoded(b"in"))).unwrap();
    assert_eq!(check(&site, b"in", &answer, &made.public_key, 0), Err(NotTaken::NobodyThere));
    assert_eq!(registered(&device, &site), Err(NotTaken::NobodyThere));
}

#[test]
fn nothing_that_is_cut_or_bent_breaks_it() {
    let (device, site) = (Authenticator::new(ORIGIN), Site::new(ORIGIN));
    let whole = device.register(&encoded(b"question"));
    let object =
        BASE64_URL_SAFE_NO_PAD.decode(whole["response"]["attestationObject"].as_str().unwrap()).unwrap();
    for length in 0..object.len() {
        let mut cut = whole.clone();
        cut["response"]["attestationObject"] = Value::String(encoded(&object[..length]));
        assert!(register(&site, b"question", &from_value(cut).unwrap()).is_err(), "{length}");
    }
    for at in 0..object.len() {
        let mut bent = object.clone();
        bent[at] ^= 0xff;
        let mut answer = whole.clone();
        answer["response"]["attestationObject"] = Value::String(encoded(&bent));
        // Some bytes don't matter: those of the maker and of the key's coordinates.
        _ = register(&site, b"question", &from_value(answer).unwrap());
    }
    let mut long = whole;
    long["response"]["attestationObject"] = Value::String("A".repeat(100_000));
    assert_eq!(register(&site, b"question", &from_value(long).unwrap()), Err(NotTaken::Malformed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_passkey_and_then_by_nothing_else() {
    let (app, alice) = TestApp::opened().await;
    let code = second_factor::turn_on(&app, &alice).await;
    let site = app.app.core.origin.clone();
    let mut device = Authenticator::new(&site);
    let asks = json!({ "password": PASSWORD, "token": code.now(&app) });
    let options = app.ok(&alice, "i/2fa/register-key", asks).await;
    assert_eq!(options["rp"]["id"], "127.0.0.1");
    let asks = |credential: Value, app: &TestApp| {
        app.clock.pass(TimeDelta::seconds(30));
        json!({ "password": PASSWORD, "token": code.now(app), "name": "Phone", "credential": credential })
    };
    let made = device.register(options["challenge"].as_str().unwrap());
    let foreign = Authenticator::new("https://evil.example").register(options["challenge"].as_str().unwrap());
    assert_eq!(app.refused(Some(&alice), "i/2fa/key-done", asks(foreign, &app)).await, "INVALID_CREDENTIAL");
    let spent = asks(made, &app);
    assert_eq!(app.refused(Some(&alice), "i/2fa/key-done", spent).await, "INVALID_CREDENTIAL", "asked once");
    app.clock.pass(TimeDelta::seconds(30));
    let again = json!({ "password": PASSWORD, "token": code.now(&app) });
    let options = app.ok(&alice, "i/2fa/register-key", again).await;
    let kept = app
        .ok(&alice, "i/2fa/key-done", asks(device.register(options["challenge"].as_str().unwrap()), &app))
        .await;
    assert_eq!(kept["name"], "Phone");
    device.user_handle = Some(alice.id.clone());
    let me = app.ok(&alice, "i", json!({})).await;
    assert_eq!((&me["securityKeys"], &me["securityKeysList"][0]["id"]), (&json!(true), &kept["id"]));

    let sign_in = async |params: Value| {
        app.clock.pass(TimeDelta::minutes(10));
        app.call(None, "signin-flow", params).await
    };
    let step = sign_in(json!({ "username": "root", "password": PASSWORD })).await.body;
    assert_eq!(
        (&step["next"], &step["authRequest"]["allowCredentials"][0]["id"]),
        (&json!("passkey"), &kept["id"])
    );
    app.clock.pass(TimeDelta::seconds(2));
    let answer = device.sign_in(step["authRequest"]["challenge"].as_str().unwrap());
    let with = json!({ "username": "root", "password": PASSWORD, "credential": answer });
    let answered = app.call(None, "signin-flow", with.clone()).await;
    assert_eq!((answered.status, &answered.body["finished"]), (200, &json!(true)), "{answered:?}");
    assert_eq!(sign_in(with).await.status, 403, "an answer is taken once");
    let wrong = sign_in(json!({ "username": "root", "password": "wrong" })).await;
    assert_eq!(wrong.status, 403);

    let asked = app.call(None, "signin-with-passkey", json!({})).await.body;
    let answer = device.sign_in(asked["option"]["challenge"].as_str().unwrap());
    let with = json!({ "context": asked["context"], "credential": answer });
    let refused = sign_in_alone(&app, &with).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["id"]),
        (403, &json!("2d84773e-f7b7-4d0b-8f72-bb69b584c912"))
    );
    app.ok(&alice, "i/2fa/password-less", json!({ "value": true })).await;
    let asked = sign_in_alone(&app, &json!({})).await.body;
    let answer = device.sign_in(asked["option"]["challenge"].as_str().unwrap());
    let with = json!({ "context": asked["context"], "credential": answer });
    let inside = sign_in_alone(&app, &with).await;
    assert_eq!(inside.body["signinResponse"]["i"], json!(alice.token), "{inside:?}");
    assert_eq!(sign_in_alone(&app, &with).await.status, 403);
    device.flags = PRESENT;
    let asked = sign_in_alone(&app, &json!({})).await.body;
    let answer = device.sign_in(asked["option"]["challenge"].as_str().unwrap());
    let with = json!({ "context": asked["context"], "credential": answer });
    assert_eq!(sign_in_alone(&app, &with).await.status, 403, "alone, it must make sure who it is");

    let rename = json!({ "credentialId": kept["id"], "name": "Old phone" });
    app.ok(&alice, "i/2fa/update-key", rename.clone()).await;
    let bob = app.sign_up("bob").await;
    assert_eq!(app.refused(Some(&bob), "i/2fa/update-key", rename).await, "ACCESS_DENIED");
    let none = json!({ "credentialId": "AAAA", "name": "x" });
    assert_eq!(app.refused(Some(&bob), "i/2fa/update-key", none).await, "NO_SUCH_KEY");
    app.clock.pass(TimeDelta::seconds(30));
    let remove = json!({ "password": PASSWORD, "token": code.now(&app), "credentialId": kept["id"] });
    app.ok(&alice, "i/2fa/remove-key", remove).await;
    let me = app.ok(&alice, "i", json!({})).await;
    let left = ["securityKeys", "usePasswordLessLogin", "securityKeysList"].map(|key| me[key].clone());
    assert_eq!(left, [json!(false), json!(false), json!([])]);
}

async fn sign_in_alone(app: &TestApp, params: &Value) -> Answer {
    app.clock.pass(TimeDelta::seconds(1));
    app.call(None, "signin-with-passkey", params.clone()).await
}
