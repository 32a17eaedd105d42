//! Takes what a call is expected to use from its caller's limits.

use super::{Account, Call, Lane};
use crate::clock::Instant;
use crate::cluster::DRAW_WITHIN;
use crate::journal::EndpointKind;
use crate::limits::{Ask, Full, Limits};
use crate::rejection::Rejection;

/// Bytes of a body for one token of its prompt.
const BYTES_A_TOKEN: u64 = 4;
/// A body of so many bytes may owe its length to pictures.
const MAY_BE_PICTURES: u64 = 32_768;
/// What a prompt with pictures is taken for, whose length in bytes says nothing.
const TOKENS_WITH_PICTURES: u64 = 2_000;

/// What a call is expected to take of what limits count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    input_tokens: u64,
    /// How many answers of tokens are asked for.
    choices: u64,
}

impl Lane {
    /// Takes what the call is expected to use from all limits that are about it; the account
    /// settles it.
    pub(super) async fn take_limits(
        &self,
        call: &mut Call,
        load: Load,
        account: &mut Account,
    ) -> Result<(), Rejection> {
        let rules = &call.snapshot.limits;
        if Limits::is_free(rules, &call.caller) {
            return Ok(());
        }
        // One that stands for nothing is refused by whoever plans.
        let Ok(route) = call.route() else { return Ok(()) };
        let total = route.conduct.timeouts.total;
        let ask = Ask {
            caller: &call.caller,
            route: &route,
            tags: account.tags(),
            input_tokens: load.input_tokens,
            max_output: call.envelope.max_tokens,
            choices: load.choices,
            patience: call.timeout.map_or(total, |timeout| timeout.min(total)),
        };
        let began = Instant::now();
        let reserved = self.limits.reserve(rules, &ask).await;
        // The caller's time went on meanwhile.
        let waited = began.elapsed();
        if waited > DRAW_WITHIN {
            call.timeout = call.timeout.map(|timeout| timeout.saturating_sub(waited));
        }
        match reserved {
            Ok(None) => Ok(()),
            Ok(Some(reservation)) => {
                let streams = matches!(call.kind, EndpointKind::Chat | EndpointKind::Messages);
                call.may_be_cut = call.envelope.stream && streams && reservation.ends_streams();
                account.on_reserved(reservation);
                Ok(())
            }
            Err(full) => {
                let Full { rejection, standing } = full.spread(self.fleet.chance());
                account.on_route(&route);
                account.on_full(standing);
                Err(rejection)
            }
        }
    }
}

// === impl Load ===

impl Load {
    /// Of a request that no model is asked.
    pub(super) const NOTHING: Self = Self { input_tokens: 0, choices: 0 };

    /// Of a call that a model has to answer.
    pub(super) fn of(call: &Call) -> Self {
        Self { input_tokens: call.guess_input(), choices: call.choices() }
    }
}

impl Call {
    /// Tokens of the prompt, by its length.
    fn guess_input(&self) -> u64 {
        let bytes = self.envelope.body().len() as u64;
        let guess = bytes / BYTES_A_TOKEN;
        if bytes >= MAY_BE_PICTURES && self.envelope.needs().images {
            return guess.min(TOKENS_WITH_PICTURES);
        }
        guess
    }

    /// How many answers of tokens are asked for.
    fn choices(&self) -> u64 {
        match self.kind {
            EndpointKind::Embeddings | EndpointKind::CountTokens => 0,
            EndpointKind::Chat | EndpointKind::Completions | EndpointKind::Messages => {
                self.envelope.n.unwrap_or(1)
            }
        }
    }
}
