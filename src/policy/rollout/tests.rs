//! Tests of all parts together.

use super::*;

mod the_figures_of_rollouts;
