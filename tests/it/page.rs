//! Pages of the relay in a headless Chromium.

mod policy;
