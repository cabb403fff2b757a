//! The edge host: a Cloudflare Worker. It reads a request, lets the core judge it, and does what the core says.
//!
//! Its twin is the native host, `native-host/src`: the files have the same names, and the parity test holds them together.

mod fetch;
mod store;

use std::{cell::RefCell, rc::Rc};

use worker::{Context, Env, console_error, console_log, console_warn, event};

use crate::{
    Action, Gate, Host, MISCONFIGURED, Outcome, ProxySettings, Reason, Settings, SettingsErrors, Tokens, Verdict, begin, drive,
    web::{self, now, request::Snapshot, respond},
};

/// What an isolate keeps between requests: settled data only, never anything pending.
struct Loaded {
    gate: Gate,
    proxy: ProxySettings,
    logs_refusals: bool,
}

thread_local! {
    /// The settings of an isolate never change: new ones come in a new isolate.
    static LOADED: RefCell<Option<Result<Rc<Loaded>, SettingsErrors>>> = const { RefCell::new(None) };
}

#[event(fetch)]
async fn fetch(incoming: web_sys::Request, env: Env, _context: Context) -> worker::Result<web_sys::Response> {
    let Ok(loaded) = load(&env) else {
        return Ok(respond::answer(&MISCONFIGURED, ""));
    };
    let snapshot = Snapshot::of(&incoming);
    let Some(facts) = snapshot.facts() else {
        return Ok(respond::answer(&crate::Answer::refusal(Reason::MalformedRequest), ""));
    };

    let may_generate = loaded.gate.policy().environment().is_for_developers();
    let Outcome { verdict, learned, store_error } =
        drive(begin(&loaded.gate, &facts, now()), async |_| store::read(&env, may_generate).await).await;
    if let Some(error) = store_error {
        console_error!("The token store holds something unusable: {}", error);
    }
    if let Verdict::Refuse(reason) = &verdict {
        log_refusal(&loaded, *reason, facts.method(), facts.path());
    }
    let response = match Action::of(&verdict, loaded.gate.policy(), &facts, now()) {
        Action::Respond(answer) => respond::answer(&answer, facts.method()),
        Action::Forward(forward) => fetch::upstream(&incoming, &snapshot, &facts, &forward, &loaded.proxy).await,
    };
    learn(&loaded, learned);
    Ok(response)
}

fn load(env: &Env) -> Result<Rc<Loaded>, ()> {
    LOADED.with_borrow_mut(|slot| {
        let loaded = slot.get_or_insert_with(|| {
            let settings =
                Settings::parse(
                    Host::Edge,
                    |name| if store::is_secrets_store(env, name) { None } else { web::setting(env, name) },
                );
            if let Err(errors) = &settings {
                console_error!("Authentication is misconfigured, every request is answered with 500:\n{}", errors);
            }
            settings.map(|settings| Rc::new(Loaded::new(settings)))
        });
        loaded.clone().map_err(drop)
    })
}

impl Loaded {
    fn new(settings: Settings) -> Self {
        for warning in &settings.warnings {
            console_warn!("{}", warning);
        }
        let fixed = settings.token.and_then(|token| Tokens::single(token.reveal()).ok());
        Self {
            gate: match fixed {
                Some(tokens) => Gate::with_tokens(settings.policy, tokens),
                None => Gate::with_store(settings.policy),
            },
            proxy: settings.proxy,
            logs_refusals: matches!(settings.log_level, "info" | "debug" | "trace"),
        }
    }
}

/// Keeps what one request learned for the next ones of this isolate.
fn learn(loaded: &Rc<Loaded>, learned: crate::Learned) {
    if learned.is_nothing() {
        return;
    }
    LOADED.with_borrow_mut(|slot| {
        if let Some(Ok(current)) = slot {
            let mut gate = current.gate.clone();
            gate.learn(learned);
            *current = Rc::new(Loaded { gate, proxy: loaded.proxy.clone(), logs_refusals: loaded.logs_refusals });
        }
    });
}

fn log_refusal(loaded: &Loaded, reason: Reason, method: &str, path: &str) {
    if reason == Reason::NoTokenConfigured {
        console_error!("No token is configured. Set one with: npx wrangler secret put WORKER_AUTH_TOKEN");
    } else if loaded.logs_refusals {
        console_log!("{}", format!("refused reason={} method={method} path={path:?}", reason.code()));
    }
}
