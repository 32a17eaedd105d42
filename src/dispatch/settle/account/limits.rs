//! What an account knows of its caller's limits.

use super::Account;
use crate::dialect::StreamSummary;
use crate::journal::Outcome;
use crate::limits::{Flow, Reservation, Standing};

// === impl Account ===

impl Account {
    /// Notes what was taken from the limits that are about the request.
    pub(in crate::dispatch) fn on_reserved(&mut self, reservation: Reservation) {
        if let Some(open) = &mut self.open {
            open.standing = Some(Box::new(reservation.standing()));
            open.reservation = Some(reservation);
        }
    }

    /// Notes what is left of limits that have no room for the request.
    pub(in crate::dispatch) fn on_full(&mut self, standing: Box<Standing>) {
        if let Some(open) = &mut self.open {
            open.standing = Some(standing);
        }
    }

    /// Notes that so many more pieces of the answer came. Whether it may go on.
    pub(in crate::dispatch) fn on_tokens(&mut self, tokens: u32) -> Flow {
        let reservation = self.open.as_mut().and_then(|open| open.reservation.as_mut());
        reservation.map_or(Flow::GoOn, |reservation| reservation.on_tokens(tokens))
    }

    /// Bytes of the request.
    pub(in crate::dispatch) fn prompt_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.prompt.len() as u64)
    }

    pub(in crate::dispatch) fn tags(&self) -> &[(String, String)] {
        self.open.as_ref().map_or(&[], |open| &open.entry.tags)
    }

    /// Settles a request whose answer was ended by a limit; what the provider said of its tokens
    /// until then is not the end of it.
    pub(in crate::dispatch) fn cut_short(mut self, summary: &StreamSummary) {
        if let Some(open) = &mut self.open {
            open.is_cut_short = true;
        }
        self.settle(Outcome::Complete, 200, Some(summary));
    }
}
