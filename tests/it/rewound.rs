//! What was under way when the database went back to an earlier state, and comes when everything was loaded anew.

use std::{sync::Arc, time::Duration};

use countersign::{
    authority::{Authority, Denied, Ready, Reason},
    domain::Presented,
};

use crate::support::{GRID, Pair, TestApp, database, open, open_cold, program::run_json};

const JOURNAL: &str = "revocations.jsonl";

/// An app that keeps a journal. The processes beside it keep none.
async fn with_a_journal() -> TestApp {
    let mut app = TestApp::new().await;
    let journal = app.directory.path().join(JOURNAL);
    app.try_replace(|options| options.journal = Some(journal)).await.unwrap();
    app
}

async fn prove(authority: &Authority, pair: &Pair) -> Result<String, Denied> {
    let presented = Presented::parse_basic(pair.basic().as_bytes());
    authority.prove(presented.as_ref(), None).await.map(|proven| proven.client_id.to_string())
}

/// A token ends behind what is remembered of the database, and both know it.
async fn end(app: &TestApp, cold: &Arc<Authority>, token: &Pair) {
    database::remember(app.directory.path());
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    cold.follow().await.unwrap();
    app.authority.follow().await.unwrap();
}

/// The database goes back to where it was remembered, both notice, and what was lost is taken in.
async fn lose_and_take_in(app: &TestApp, cold: &Arc<Authority>) {
    database::go_back(app.directory.path());
    cold.follow().await.unwrap_err();
    app.authority.follow().await.unwrap_err();
    let journal = app.directory.path().join(JOURNAL);
    let taken_in = run_json(app.directory.path(), &["restore", "--journal", journal.to_str().unwrap()]);
    assert_eq!(taken_in["tokens"], 1, "{taken_in}");
}

/// Somebody proves a token; to be waited for elsewhere.
fn proving(authority: &Arc<Authority>, pair: &Pair) -> impl Future<Output = Result<String, Denied>> + Send + 'static {
    let (authority, pair) = (Arc::clone(authority), pair.clone());
    async move { prove(&authority, &pair).await }
}

/// It has the row of a live token in its hands, which ends; and gets on when everything has been loaded anew.
#[tokio::test]
async fn r_15_a_late_reader_of_a_lost_history_brings_no_token_back() {
    let app = with_a_journal().await;
    let (kept, ended) = (app.token("kept", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    let cold = open_cold(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let meanwhile = async || {
        end(&app, &cold, &ended).await;
        lose_and_take_in(&app, &cold).await;
        cold.follow().await.unwrap();
    };
    // The second look is that behind the read.
    let late = app.clock.stop_at(2, proving(&cold, &ended), meanwhile).await;
    assert_eq!(late, Ok(ended.client_id.clone()), "it did not wait where it should: this proves nothing");
    assert_eq!(prove(&cold, &ended).await, Err(Denied::Refused(Reason::Revoked)), "it was brought back");
    assert_eq!(prove(&cold, &kept).await, Ok(kept.client_id));
}

/// It asks whether the database has the place that was lost, when everything has been loaded anew.
#[tokio::test]
async fn r_15_a_late_reader_of_a_lost_history_stops_nobody() {
    let app = with_a_journal().await;
    let (kept, ended) = (app.token("kept", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    let cold = open_cold(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    end(&app, &cold, &ended).await;
    let meanwhile = async || {
        lose_and_take_in(&app, &cold).await;
        cold.follow().await.unwrap();
    };
    let late = app.clock.stop_at(1, proving(&cold, &kept), meanwhile).await;
    assert_eq!(late, Err(Denied::Unknown), "it did not wait where it should: this proves nothing");
    assert_eq!(cold.ready().await, Ok(Ready::Wholly));
    assert_eq!(prove(&cold, &kept).await, Ok(kept.client_id));
}

/// Beginning anew is not over before it was done whole.
#[tokio::test]
async fn r_15_a_process_that_fails_to_begin_anew_does_so_once_more() {
    let app = with_a_journal().await;
    let (kept, ended) = (app.token("kept", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    let warm = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    assert_eq!(warm.figures().live_tokens, 4);
    end(&app, &warm, &ended).await;
    lose_and_take_in(&app, &warm).await;
    let follower = Arc::clone(&warm);
    let follow = async move { follower.follow().await };
    // The first look is that of the read that says what is lost, the second one of the first read behind it.
    let meanwhile = async || {
        assert_eq!(warm.figures().live_tokens, 0, "it did not wait where it should: this proves nothing");
        database::edit(app.directory.path(), "INSERT INTO hold (one, reason) VALUES (1, 'moved')");
    };
    app.clock.stop_at(2, follow, meanwhile).await.unwrap_err();
    assert_eq!(prove(&warm, &kept).await, Err(Denied::Unknown));
    database::edit(app.directory.path(), "DELETE FROM hold");
    warm.follow().await.unwrap();
    let loaded = async {
        while warm.figures().live_tokens < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), loaded).await.expect("tokens are not loaded any more");
    assert_eq!(prove(&warm, &kept).await, Ok(kept.client_id));
    assert_eq!(prove(&warm, &ended).await, Err(Denied::Refused(Reason::Revoked)));
}

/// That a token is not there is no answer either of a database that lacks what was followed.
#[tokio::test]
async fn r_15_a_token_of_a_lost_history_is_unknown() {
    let app = with_a_journal().await;
    database::remember(app.directory.path());
    let late = app.token("late", &["VIEW"]).await;
    let cold = open_cold(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    database::go_back(app.directory.path());
    assert_eq!(prove(&cold, &late).await, Err(Denied::Unknown));
}
