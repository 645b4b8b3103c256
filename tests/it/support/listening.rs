//! An app behind real listeners, in the process of the test: its clock is the test's.

use std::net::SocketAddr;

use countersign::{
    config::Config,
    http::{Listeners, serve},
};
use tokio::{net::TcpListener, sync::watch};

use super::TestApp;

pub(crate) struct Listening {
    pub(crate) app: TestApp,
    pub(crate) ext_authz: SocketAddr,
    _end: watch::Sender<bool>,
}

impl Listening {
    pub(crate) async fn new() -> Self {
        let app = TestApp::new().await;
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api, admin, envoys) = (bind().await, bind().await, bind().await);
        let ext_authz = envoys.local_addr().unwrap();
        let (end, ending) = watch::channel(false);
        let serving = app.app.clone();
        tokio::spawn(async move {
            let config = Config::layered(&Default::default(), [], None).unwrap();
            serve(serving, Listeners { api, admin, ext_authz: Some(envoys) }, &config, ending).await;
        });
        Self { app, ext_authz, _end: end }
    }
}
