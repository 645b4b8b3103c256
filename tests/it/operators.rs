//! Who may act as an operator, and who may not.

use std::{net::IpAddr, sync::Arc, time::Duration};

use countersign::{
    authority::{Authority, Error, Refused, SignIn, SignedIn, Standing},
    domain::{
        Account, AccountName, Actor, AuditQuery, Environment, Issuer, NewToken, Operator, Owner, Permissions, PlatformId,
        PresentedOperator, RequestInfo, Role, TokenId, TokenName,
    },
};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use crate::{
    keys::write_keys,
    support::{TestApp, database, operator},
};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) fn source(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn request() -> RequestInfo {
    RequestInfo { id: "request-1".to_owned(), source: "192.0.2.1".to_owned() }
}

pub(crate) fn name(text: &str) -> AccountName {
    AccountName::parse("name", text).unwrap()
}

pub(crate) fn token_name(text: &str) -> TokenName {
    TokenName::parse("name", text).unwrap()
}

/// What an app shows for a secret, written down by the standard and not by our code.
pub(crate) fn code(secret: &str, millis: i64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(&BASE32_NOPAD.decode(secret.as_bytes()).unwrap()).unwrap();
    mac.update(&(millis / 30_000).to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let word = u32::from_be_bytes(hash[at..at + 4].try_into().unwrap()) & 0x7FFF_FFFF;
    format!("{:06}", word % 1_000_000)
}

/// Somebody with a password and an app.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) totp: String,
}

impl Person {
    /// Invited, and in for the first time.
    pub(crate) async fn invited(app: &TestApp, name: &'static str, role: Role, platform: Option<PlatformId>) -> (Self, SignedIn) {
        let (listed, invitation) = app.authority.create_account(&operator(), self::name(name), role, platform, None).await.unwrap();
        assert!(matches!(listed.standing, Standing::Invited(_)));
        Self::accepts(app, name, invitation.expose()).await.unwrap()
    }

    pub(crate) async fn accepts(app: &TestApp, name: &'static str, invitation: &str) -> Result<(Self, SignedIn), Refused> {
        let enrolment = app.authority.enrol(None).unwrap();
        let person = Self { name, totp: enrolment.text() };
        let chosen = person.types(PASSWORD, app);
        let signed_in = app.authority.accept_invitation(chosen, invitation, enrolment.sealed(), source(1), request()).await?;
        // The next code.
        app.clock.advance(Duration::from_secs(30));
        Ok((person, signed_in))
    }

    pub(crate) fn types(&self, password: &str, app: &TestApp) -> SignIn {
        let wall = countersign::authority::Clock::wall(&*app.clock).millis();
        SignIn { name: self.name.to_owned(), password: password.to_owned(), code: code(&self.totp, wall) }
    }

    async fn signs_in(&self, app: &TestApp) -> Result<SignedIn, Refused> {
        let signed_in = app.authority.sign_in(self.types(PASSWORD, app), source(1), request()).await;
        app.clock.advance(Duration::from_secs(30));
        signed_in
    }
}

async fn account(authority: &Authority, of: &str) -> Account {
    authority.get_account(&operator(), name(of)).await.unwrap().account
}

async fn is_in(app: &TestApp, cookie: &str) -> bool {
    app.authority.signed_in(cookie).await.unwrap().is_some()
}

#[tokio::test]
async fn an_invitation_lets_somebody_in_once() {
    let app = TestApp::new().await;
    let (_, invitation) = app.authority.create_account(&operator(), name("alice"), Role::Manager, None, None).await.unwrap();
    let code = invitation.expose().to_owned();
    assert!(matches!(Person::accepts(&app, "alice", &code.replace(&code[..1], "7")).await, Err(Refused::Wrong)));
    assert!(matches!(Person::accepts(&app, "bob", &code).await, Err(Refused::Wrong)));
    // However it is typed.
    let (alice, first) = Person::accepts(&app, "alice", &code.to_lowercase().replace('-', " ")).await.unwrap();
    assert_eq!((first.account.name.as_str(), first.account.role), ("alice", Role::Manager));
    assert!(matches!(Person::accepts(&app, "alice", &code).await, Err(Refused::Wrong)), "twice");
    assert!(is_in(&app, &first.cookie()).await);
    let second = alice.signs_in(&app).await.unwrap();
    assert_ne!(first.cookie(), second.cookie());
    assert!(is_in(&app, &first.cookie()).await && is_in(&app, &second.cookie()).await);

    // Signing out ends the one, and not the other.
    app.authority.sign_out(&second, request()).await.unwrap();
    assert!(is_in(&app, &first.cookie()).await && !is_in(&app, &second.cookie()).await);
    assert_eq!(app.authority.get_account(&operator(), name("alice")).await.unwrap().standing, Standing::Active);

    let entries = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0;
    let told: Vec<_> = entries.iter().take(4).map(|entry| (entry.entry.action.name(), entry.entry.actor.clone())).collect();
    let (alice, test) = (Actor::Operator("alice".to_owned()), Actor::Operator("test".to_owned()));
    let expected =
        [("operator.sign_out", alice.clone()), ("operator.sign_in", alice.clone()), ("operator.sign_in", alice), ("operator.create", test)];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_wrong_with_what_somebody_chooses_is_said_to_who_has_the_invitation() {
    let app = TestApp::new().await;
    let (_, invitation) = app.authority.create_account(&operator(), name("alice"), Role::Owner, None, None).await.unwrap();
    let enrolment = app.authority.enrol(None).unwrap();
    let again = app.authority.enrol(Some(enrolment.sealed())).unwrap();
    assert_eq!((again.text(), again.sealed()), (enrolment.text(), enrolment.sealed()), "nobody scans twice");
    let person = Person { name: "alice", totp: enrolment.text() };
    let accept = async |password: &str, code: Option<&str>, sealed: &str| {
        let mut chosen = person.types(password, &app);
        chosen.code = code.map_or(chosen.code.clone(), str::to_owned);
        app.authority.accept_invitation(chosen, invitation.expose(), sealed, source(1), request()).await
    };
    let problem = |refused: Result<SignedIn, Refused>| match refused {
        Err(Refused::Invalid(invalid)) => invalid.problems()[0].field.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(accept("short", None, enrolment.sealed()).await), "password");
    assert_eq!(problem(accept("alice in wonderland", None, enrolment.sealed()).await), "password");
    assert_eq!(problem(accept(PASSWORD, Some("000000"), enrolment.sealed()).await), "code");
    assert_eq!(problem(accept(PASSWORD, None, "AAAA").await), "code", "not what we have shown");
    app.clock.advance(Duration::from_secs(3601));
    assert_eq!(problem(accept(PASSWORD, None, enrolment.sealed()).await), "code", "shown too long ago");
    // A day after it was made it is nobody's.
    app.clock.advance(Duration::from_secs(23 * 3600));
    assert!(matches!(Person::accepts(&app, "alice", invitation.expose()).await, Err(Refused::Wrong)));
    let (_, new) = app.authority.reset_account(&operator(), name("alice")).await.unwrap();
    assert!(Person::accepts(&app, "alice", new.expose()).await.is_ok());
}

#[tokio::test]
async fn nobody_is_told_what_was_wrong() {
    let app = TestApp::new().await;
    let (alice, _) = Person::invited(&app, "alice", Role::Owner, None).await;
    let (bob, _) = Person::invited(&app, "bob", Role::Viewer, None).await;
    app.authority.create_account(&operator(), name("invited"), Role::Viewer, None, None).await.unwrap();
    app.authority.set_account_disabled(&operator(), name("bob"), true).await.unwrap();
    let mut n = 10;
    let mut wrong = async |given: SignIn| {
        n += 1;
        matches!(app.authority.sign_in(given, source(n), request()).await, Err(Refused::Wrong))
    };
    assert!(wrong(alice.types("another password", &app)).await);
    let changed = |change: fn(&mut SignIn)| {
        let mut given = alice.types(PASSWORD, &app);
        change(&mut given);
        given
    };
    assert!(wrong(changed(|given| given.code = "000000".to_owned())).await);
    assert!(wrong(changed(|given| given.name = "nobody".to_owned())).await);
    assert!(wrong(changed(|given| given.name = "Alice".to_owned())).await);
    assert!(wrong(bob.types(PASSWORD, &app)).await, "disabled");
    assert!(wrong(Person { name: "invited", totp: alice.totp.clone() }.types(PASSWORD, &app)).await, "has no password");
    assert!(wrong(alice.types(&"x".repeat(1000), &app)).await);
    let code = alice.types(PASSWORD, &app);
    let again = alice.types(PASSWORD, &app);
    assert!(app.authority.sign_in(code, source(1), request()).await.is_ok());
    assert!(wrong(again).await, "a code counts once");
    app.authority.set_account_disabled(&operator(), name("bob"), false).await.unwrap();
    assert!(bob.signs_in(&app).await.is_ok());
    assert!(app.metrics().await.contains("countersign_refusals_total{reason=\"sign_in\"} 8"));
}

#[tokio::test]
async fn who_fails_too_often_waits() {
    let app = TestApp::new().await;
    let (alice, _) = Person::invited(&app, "alice", Role::Owner, None).await;
    let (bob, _) = Person::invited(&app, "bob", Role::Owner, None).await;
    let attempt = async |person: &Person, password: &str, from: u8| {
        app.authority.sign_in(person.types(password, &app), source(from), request()).await
    };
    for _ in 0..10 {
        assert!(matches!(attempt(&alice, "another password", 1).await, Err(Refused::Wrong)));
    }
    assert!(matches!(attempt(&alice, "another password", 1).await, Err(Refused::Limited(_))));
    // From there nobody, from elsewhere everybody.
    assert!(matches!(attempt(&bob, PASSWORD, 1).await, Err(Refused::Limited(_))));
    assert!(attempt(&bob, PASSWORD, 2).await.is_ok());
    // With one account from everywhere.
    for from in 3..13 {
        assert!(matches!(attempt(&alice, "another password", from).await, Err(Refused::Wrong | Refused::Limited(_))));
    }
    assert!(matches!(attempt(&alice, PASSWORD, 14).await, Err(Refused::Limited(_))));
    app.clock.advance(Duration::from_secs(60));
    assert!(attempt(&alice, PASSWORD, 14).await.is_ok());
}

#[tokio::test]
async fn a_password_is_changed_by_who_has_both_factors() {
    let app = TestApp::new().await;
    let (alice, first) = Person::invited(&app, "alice", Role::Owner, None).await;
    let (_, bob) = Person::invited(&app, "bob", Role::Owner, None).await;
    let second = alice.signs_in(&app).await.unwrap();
    let new = "several other words in a row";
    let given = |password: &str, code: Option<&str>| {
        let mut given = alice.types(password, &app);
        given.code = code.map_or(given.code.clone(), str::to_owned);
        given
    };
    let change = async |given: SignIn, new: &str| app.authority.change_password(&first, given, new.to_owned(), source(1), request()).await;
    assert!(matches!(change(given("another password", None), new).await, Err(Refused::Wrong)));
    assert!(matches!(change(given(PASSWORD, Some("000000")), new).await, Err(Refused::Wrong)));
    for weak in ["short", "alice in wonderland", "aaaaaaaaaaaaaaaa"] {
        let Err(Refused::Invalid(invalid)) = change(given(PASSWORD, None), weak).await else { panic!("{weak}") };
        assert_eq!(invalid.problems()[0].field, "password");
    }
    assert!(is_in(&app, &first.cookie()).await && is_in(&app, &second.cookie()).await);
    // None of these has used the code up; this does.
    let again = given(new, None);
    let third = change(given(PASSWORD, None), new).await.unwrap();
    assert!(matches!(change(again, "yet another password").await, Err(Refused::Wrong)), "a code counts once");
    assert!(![first.cookie(), second.cookie()].contains(&third.cookie()));
    assert!(!is_in(&app, &first.cookie()).await && !is_in(&app, &second.cookie()).await);
    assert!(is_in(&app, &third.cookie()).await && is_in(&app, &bob.cookie()).await);
    assert!(!third.has_sent(&first.form_key()));
    app.clock.advance(Duration::from_secs(30));
    assert!(matches!(alice.signs_in(&app).await, Err(Refused::Wrong)), "the old one");
    let signed_in = app.authority.sign_in(given(new, None), source(1), request()).await.unwrap();
    assert!(is_in(&app, &third.cookie()).await && is_in(&app, &signed_in.cookie()).await);
    let entries = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0;
    let entry = entries.iter().find(|entry| entry.entry.action.name() == "operator.change").unwrap();
    assert_eq!(entry.entry.actor, Actor::Operator("alice".to_owned()));
    assert_eq!(entry.entry.detail, r#"{"operator":"alice","password":"changed"}"#);
}

#[tokio::test]
async fn a_second_factor_is_replaced_by_who_has_both() {
    let app = TestApp::new().await;
    let (mut alice, first) = Person::invited(&app, "alice", Role::Owner, None).await;
    let (bob, bobs) = Person::invited(&app, "bob", Role::Owner, None).await;
    let second = alice.signs_in(&app).await.unwrap();
    let ask = async |who: &SignedIn, given: SignIn| app.authority.enrol_anew(who, given, source(1), request()).await;
    assert!(matches!(ask(&first, alice.types("another password", &app)).await, Err(Refused::Wrong)));
    assert!(matches!(ask(&first, bob.types(PASSWORD, &app)).await, Err(Refused::Wrong)), "another's app");
    let shown = ask(&first, alice.types(PASSWORD, &app)).await.unwrap();
    assert!(matches!(ask(&first, alice.types(PASSWORD, &app)).await, Err(Refused::Wrong)), "a code counts once");
    let of_bob = ask(&bobs, bob.types(PASSWORD, &app)).await.unwrap();
    app.clock.advance(Duration::from_secs(30));
    assert!(alice.signs_in(&app).await.is_ok(), "the old one is good until the new one has shown a code");

    let now = || countersign::authority::Clock::wall(&*app.clock).millis();
    let replace = async |who: &SignedIn, sealed: &str, totp: &str| {
        app.authority.replace_second_factor(who, sealed, &code(totp, now()), request()).await
    };
    // By nothing but what was shown in the same session.
    let anybodys = app.authority.enrol(None).unwrap();
    for (who, enrolment) in [(&first, &anybodys), (&first, &of_bob), (&second, &shown), (&bobs, &shown)] {
        let refused = replace(who, enrolment.sealed(), &enrolment.text()).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
        assert!(app.authority.enrolment_anew(who, enrolment.sealed()).is_none());
    }
    assert!(matches!(replace(&first, shown.sealed(), &alice.totp).await, Err(Refused::Invalid(_))), "a code of the old one");
    assert_eq!(app.authority.enrolment_anew(&first, shown.sealed()).unwrap().text(), shown.text());
    let third = replace(&first, shown.sealed(), &shown.text()).await.unwrap();
    assert!(!is_in(&app, &first.cookie()).await && !is_in(&app, &second.cookie()).await && is_in(&app, &third.cookie()).await);
    app.clock.advance(Duration::from_secs(30));
    assert!(matches!(replace(&first, shown.sealed(), &shown.text()).await, Err(Refused::Wrong)), "out");
    assert!(matches!(replace(&third, shown.sealed(), &shown.text()).await, Err(Refused::Invalid(_))), "twice");
    assert!(matches!(alice.signs_in(&app).await, Err(Refused::Wrong)), "the old one");
    alice.totp = shown.text();
    assert!(alice.signs_in(&app).await.is_ok());
    assert!(is_in(&app, &bobs.cookie()).await);
    let entries = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0;
    let told: Vec<_> = entries.iter().filter(|entry| entry.entry.action.name() == "operator.change").collect();
    let told: Vec<_> = told.iter().filter(|entry| entry.entry.actor == Actor::Operator("alice".to_owned())).collect();
    let told: Vec<_> = told.iter().map(|entry| entry.entry.detail.as_str()).collect();
    assert_eq!(told, [r#"{"operator":"alice","secondFactor":"replaced"}"#, r#"{"operator":"alice","secondFactor":"shown"}"#]);

    // Who has left the page for more than an hour begins again.
    let late = ask(&third, alice.types(PASSWORD, &app)).await.unwrap();
    for _ in 0..7 {
        app.clock.advance(Duration::from_secs(520));
        assert!(is_in(&app, &third.cookie()).await);
    }
    assert!(matches!(replace(&third, late.sealed(), &late.text()).await, Err(Refused::Invalid(_))));
}

/// Whoever finds a browser signed in guesses no faster there than where they would sign in.
#[tokio::test]
async fn what_fails_at_changing_counts_as_it_does_at_signing_in() {
    let app = TestApp::new().await;
    let (alice, signed_in) = Person::invited(&app, "alice", Role::Owner, None).await;
    for n in 0..10 {
        let given = alice.types("another password", &app);
        let refused = match n % 2 {
            0 => app.authority.change_password(&signed_in, given, PASSWORD.to_owned(), source(7), request()).await.map(drop),
            _ => app.authority.enrol_anew(&signed_in, given, source(7), request()).await.map(drop),
        };
        assert!(matches!(refused, Err(Refused::Wrong)), "{n}");
    }
    let sign_in = async |password: &str, from: u8| app.authority.sign_in(alice.types(password, &app), source(from), request()).await;
    assert!(matches!(sign_in("another password", 7).await, Err(Refused::Limited(_))));
    let limited = app.authority.enrol_anew(&signed_in, alice.types(PASSWORD, &app), source(7), request()).await;
    assert!(matches!(limited, Err(Refused::Limited(_))));
    for from in 20..30 {
        assert!(matches!(sign_in("another password", from).await, Err(Refused::Wrong | Refused::Limited(_))));
    }
    // With this account from everywhere.
    let given = alice.types(PASSWORD, &app);
    let limited = app.authority.change_password(&signed_in, given, "several other words".to_owned(), source(8), request()).await;
    assert!(matches!(limited, Err(Refused::Limited(_))));
    assert!(is_in(&app, &signed_in.cookie()).await);
}

#[tokio::test]
async fn nobody_is_signed_in_for_ever() {
    let app = TestApp::new().await;
    let (alice, first) = Person::invited(&app, "alice", Role::Owner, None).await;
    app.clock.advance(Duration::from_secs(30 * 60));
    assert!(!is_in(&app, &first.cookie()).await, "half an hour");
    let busy = alice.signs_in(&app).await.unwrap();
    for _ in 0..35 {
        assert!(is_in(&app, &busy.cookie()).await);
        app.clock.advance(Duration::from_secs(20 * 60));
    }
    app.clock.advance(Duration::from_secs(20 * 60));
    assert!(!is_in(&app, &busy.cookie()).await, "twelve hours");

    for what in ["", "AAAA", &"A".repeat(43), &"A".repeat(44)] {
        assert!(!is_in(&app, what).await);
    }
    let [one, two] = [alice.signs_in(&app).await.unwrap(), alice.signs_in(&app).await.unwrap()];
    assert!(one.has_sent(&one.form_key()) && !one.has_sent(&two.form_key()) && !one.has_sent(""));
    assert_ne!(one.form_key(), one.cookie());
    // Disabled is out, and stays so behind that.
    app.authority.create_account(&operator(), name("other"), Role::Owner, None, None).await.unwrap();
    app.authority.set_account_disabled(&operator(), name("alice"), true).await.unwrap();
    assert!(!is_in(&app, &one.cookie()).await);
    app.authority.set_account_disabled(&operator(), name("alice"), false).await.unwrap();
    assert!(!is_in(&app, &one.cookie()).await && !is_in(&app, &two.cookie()).await);
    let three = alice.signs_in(&app).await.unwrap();
    let (_, invitation) = app.authority.reset_account(&operator(), name("alice")).await.unwrap();
    assert!(!is_in(&app, &three.cookie()).await);
    assert!(matches!(alice.signs_in(&app).await, Err(Refused::Wrong)), "reset");
    assert!(Person::accepts(&app, "alice", invitation.expose()).await.is_ok());
}

#[tokio::test]
async fn there_is_always_an_owner() {
    let app = TestApp::new().await;
    let last = |result: Result<_, Error>| matches!(result.map(drop), Err(Error::LastOwner));
    app.authority.create_account(&operator(), name("alice"), Role::Owner, None, None).await.unwrap();
    let taken = app.authority.create_account(&operator(), name("alice"), Role::Viewer, None, None).await;
    assert!(matches!(taken, Err(Error::NameTaken)));
    assert!(last(app.authority.set_account_role(&operator(), name("alice"), Role::Manager).await));
    assert!(last(app.authority.set_account_disabled(&operator(), name("alice"), true).await));
    app.authority.create_account(&operator(), name("bob"), Role::Owner, None, None).await.unwrap();
    app.authority.set_account_role(&operator(), name("alice"), Role::Manager).await.unwrap();
    assert_eq!(account(&app.authority, "alice").await.role, Role::Manager);
    assert!(last(app.authority.set_account_disabled(&operator(), name("bob"), true).await));
    let of_one = app.authority.create_account(&operator(), name("carol"), Role::Owner, Some(app.platform.id), None).await;
    assert!(matches!(of_one, Err(Error::Invalid(_))));
    let nowhere = PlatformId::parse("019542f5-b3e7-7d02-8000-000000000001").unwrap();
    let nowhere = app.authority.create_account(&operator(), name("carol"), Role::Viewer, Some(nowhere), None).await;
    assert!(matches!(nowhere, Err(Error::NotFound)));
}

#[tokio::test]
async fn programs_act_for_operators() {
    let mut app = TestApp::new().await;
    let (_, alice) = Person::invited(&app, "alice", Role::Manager, None).await;
    let (_, bob) = Person::invited(&app, "bob", Role::Owner, None).await;
    let (alice, bob) = (alice.operator(request()), bob.operator(request()));
    let expires = countersign::authority::Clock::wall(&*app.clock).plus_millis(60_000);
    let issued = app.authority.create_operator_token(&alice, name("alice"), token_name("ci"), Some(expires), None).await.unwrap();
    let second = app.authority.create_operator_token(&bob, name("alice"), token_name("more"), None, None).await.unwrap();
    let refused = app.authority.create_operator_token(&alice, name("bob"), token_name("x"), None, None).await;
    assert!(matches!(refused, Err(Error::RoleLacking(_))));
    let other = app.authority.clone();
    let _ = app.try_replace(|_| {}).await.unwrap();
    // At every server, each time.
    let acts = async |secret: &str| {
        let presented = PresentedOperator::parse(secret).unwrap();
        let [here, there] = [&app.authority, &other].map(|authority| authority.prove_operator(&presented, request()));
        let (here, there) = (here.await.unwrap(), there.await.unwrap());
        assert_eq!(here.is_some(), there.is_some());
        here.map(|operator| (operator.actor(), operator.role()))
    };
    let alices = Some((Actor::Operator("alice".to_owned()), Role::Manager));
    assert_eq!(acts(issued.secret.expose()).await, alices);
    assert_eq!(acts(second.secret.expose()).await, alices);
    // Another secret of the same token.
    let mut forged = issued.secret.expose().to_owned();
    let other_body = second.secret.expose()[30..].to_owned();
    forged.replace_range(30.., &other_body);
    assert!(PresentedOperator::parse(&forged).is_none());

    other.set_account_role(&operator(), name("alice"), Role::Viewer).await.unwrap();
    assert_eq!(acts(issued.secret.expose()).await.unwrap().1, Role::Viewer);
    other.revoke_operator_token(&alice, second.token.id).await.unwrap();
    assert_eq!(acts(second.secret.expose()).await, None);
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(acts(issued.secret.expose()).await, None, "expired");
    let third = app.authority.create_operator_token(&operator(), name("alice"), token_name("third"), None, None).await.unwrap();
    other.set_account_disabled(&operator(), name("alice"), true).await.unwrap();
    assert_eq!(acts(third.secret.expose()).await, None);
    let bobs = app.authority.create_operator_token(&bob, name("bob"), token_name("own"), None, None).await.unwrap();
    let hidden = app.authority.revoke_operator_token(&alice, bobs.token.id).await;
    assert!(matches!(hidden, Err(Error::NotFound)), "whoever may not see it learns nothing of it");
    // What was lent for a minute makes nothing that lives longer.
    let soon = |millis: i64| Some(countersign::authority::Clock::wall(&*app.clock).plus_millis(millis));
    let lent = app.authority.create_operator_token(&bob, name("bob"), token_name("lent"), soon(60_000), None).await.unwrap();
    let borrower =
        app.authority.prove_operator(&PresentedOperator::parse(lent.secret.expose()).unwrap(), request()).await.unwrap().unwrap();
    let make = async |until| app.authority.create_operator_token(&borrower, name("bob"), token_name("made"), until, None).await;
    for until in [None, soon(60_001)] {
        assert!(matches!(make(until).await, Err(Error::Invalid(_))), "{until:?}");
    }
    assert_eq!(make(soon(60_000)).await.unwrap().token.expires_at, soon(60_000));
    let listed = app.authority.list_operator_tokens(&bob, name("alice")).await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names[0], "third", "the newest first");
    names.sort_unstable();
    assert_eq!(names, ["ci", "more", "third"]);
    assert!(matches!(app.authority.list_operator_tokens(&alice, name("bob")).await, Err(Error::RoleLacking(_))));
}

/// S-09 for operators: who can write the database alone becomes nobody by it.
#[tokio::test]
async fn edited_rows_let_nobody_in() {
    let app = TestApp::new().await;
    let (alice, signed_in) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let (_, bob) = Person::invited(&app, "bob", Role::Owner, None).await;
    let operators = signed_in.operator(request());
    let issued = app.authority.create_operator_token(&operators, name("alice"), token_name("ci"), None, None).await.unwrap();
    let presented = PresentedOperator::parse(issued.secret.expose()).unwrap();
    let acts = async || app.authority.prove_operator(&presented, request()).await.unwrap().is_some();
    assert!(acts().await && is_in(&app, &signed_in.cookie()).await);
    let edit = |statements: &str| database::edit(app.directory.path(), statements);

    edit("UPDATE account SET role = 'owner' WHERE name = 'alice'");
    assert!(!acts().await && !is_in(&app, &signed_in.cookie()).await);
    assert!(matches!(alice.signs_in(&app).await, Err(Refused::Wrong)));
    let health = app.get("/healthz").send_admin().await.json();
    assert_eq!(health["integrityFailures"], 1);
    assert_eq!(app.authority.get_account(&operator(), name("alice")).await.unwrap().standing, Standing::Broken);
    edit("UPDATE account SET role = 'viewer' WHERE name = 'alice'");
    assert!(acts().await && is_in(&app, &signed_in.cookie()).await);

    // The row of another: its way in, its session, its token.
    edit("UPDATE account SET access = (SELECT access FROM account WHERE name = 'alice') WHERE name = 'bob'");
    assert!(!is_in(&app, &bob.cookie()).await);
    edit("UPDATE operator_session SET account_id = (SELECT id FROM account WHERE name = 'bob')");
    assert!(!is_in(&app, &signed_in.cookie()).await);
    edit("UPDATE operator_token SET account_id = (SELECT id FROM account WHERE name = 'bob')");
    assert!(!acts().await);
    // Reset makes it good, and gives nothing of what was forged.
    edit("UPDATE account SET role = 'owner', platform_id = NULL WHERE name = 'alice'");
    let (listed, invitation) = app.authority.reset_account(&operator(), name("alice")).await.unwrap();
    assert_eq!(listed.account.role, Role::Viewer);
    assert!(Person::accepts(&app, "alice", invitation.expose()).await.is_ok());
}

#[tokio::test]
async fn s_08_accounts_outlive_the_key_that_sealed_them() {
    let app = TestApp::new().await;
    let (alice, signed_in) = Person::invited(&app, "alice", Role::Owner, None).await;
    let issued = app.authority.create_operator_token(&operator(), name("alice"), token_name("ci"), None, None).await.unwrap();
    let presented = PresentedOperator::parse(issued.secret.expose()).unwrap();
    write_keys(&app.directory.path().join("keys.json"), &[(1, "verify-only")], 2);
    app.authority.reload_keys().await.unwrap();
    assert!(is_in(&app, &signed_in.cookie()).await);
    let plan = app.authority.plan_retirement(&operator(), 1).await.unwrap();
    app.authority.retire_key(&operator(), 1, plan.count, plan.seq, usize::MAX).await.unwrap();
    assert!(app.authority.prove_operator(&presented, request()).await.unwrap().is_some());
    // Who was signed in signs in again: that was sealed by the old key alone.
    assert!(!is_in(&app, &signed_in.cookie()).await);
    assert!(alice.signs_in(&app).await.is_ok());
}

#[tokio::test]
async fn staff_of_one_platform_see_nothing_else() {
    let app = TestApp::new().await;
    let (other, roots) = app.another_platform("Other").await;
    let (_, staff) = Person::invited(&app, "staff", Role::Manager, Some(app.platform.id)).await;
    let staff = staff.operator(request());
    let names: Vec<_> = app.authority.list_platforms(&staff).await.unwrap().into_iter().map(|platform| platform.id).collect();
    assert_eq!(names, [app.platform.id]);
    assert!(matches!(app.authority.get_platform(&staff, other.id).await, Err(Error::NotFound)));
    assert!(matches!(app.authority.locate_platform(&staff, other.id, Environment::Sandbox).await, Err(Error::NotFound)));
    let foreign = TokenId::parse(&roots[0].id).unwrap();
    assert!(matches!(app.authority.locate_token(&staff, foreign).await, Err(Error::NotFound)));
    let of_other = AuditQuery { platform: Some(other.id), ..AuditQuery::default() };
    assert!(matches!(app.authority.list_audit(&staff, of_other).await, Err(Error::NotFound)));
    let seen = app.authority.list_audit(&staff, AuditQuery::default()).await.unwrap().0;
    assert!(seen.len() >= 4 && seen.iter().all(|entry| entry.entry.platform == Some(app.platform.id)), "{seen:?}");
    assert!(matches!(app.authority.list_accounts(&staff).await, Err(Error::RoleLacking(_))));
    assert!(matches!(app.authority.list_keys(&staff).await, Err(Error::RoleLacking(_))));
    assert!(staff.clone().may_own().is_err());

    // What they issue is the platform's, and they end no root token.
    let manage = |operator: &Operator| {
        let (operator, authority) = (operator.clone(), Arc::clone(&app.authority));
        async move { authority.locate_platform(&operator, app.platform.id, Environment::Sandbox).await.unwrap().may_manage() }
    };
    let by = manage(&staff).await.unwrap();
    let new = || NewToken { name: token_name("theirs"), permissions: Permissions::ALL };
    let issued = app.authority.create_token(&by, new(), None).await.unwrap();
    assert_eq!((issued.token.issuer, issued.token.revocable), (Issuer::Platform, true));
    let root = TokenId::parse(&app.sandbox.id).unwrap();
    assert!(matches!(app.authority.revoke_token(&by, root).await, Err(Error::NotRevocable)));
    app.authority.revoke_token(&by, issued.token.id).await.unwrap();
    let owner: &Owner = &operator();
    assert_eq!(app.authority.create_token(&manage(owner).await.unwrap(), new(), None).await.unwrap().token.issuer, Issuer::Operator);

    let (_, viewer) = Person::invited(&app, "viewer", Role::Viewer, None).await;
    let viewer = viewer.operator(request());
    assert!(manage(&viewer).await.is_err());
    assert_eq!(app.authority.list_platforms(&viewer).await.unwrap().len(), 2);
    assert!(app.authority.list_accounts(&viewer).await.is_ok());
}

#[tokio::test]
async fn accounts_are_moved_with_everything_else() {
    let app = TestApp::new().await;
    let (alice, signed_in) = Person::invited(&app, "alice", Role::Owner, None).await;
    let issued = app.authority.create_operator_token(&operator(), name("alice"), token_name("ci"), None, None).await.unwrap();
    let presented = PresentedOperator::parse(issued.secret.expose()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (from, to) = (database::of(app.directory.path()), countersign::authority::Database::Sqlite(elsewhere.path().join("new")));
    let (app, copied) = app.move_to(&from, &to).await;
    assert_eq!(copied.edited, 0);
    assert!(app.authority.prove_operator(&presented, request()).await.unwrap().is_some());
    assert!(!is_in(&app, &signed_in.cookie()).await, "sessions are not moved");
    assert!(alice.signs_in(&app).await.is_ok());
}
