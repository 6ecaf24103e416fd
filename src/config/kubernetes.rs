//! The variables that Kubernetes makes for each Service of a namespace, such as `relay`, `segment-relay` or `relay-admin`. They
//! begin as settings do, and are none.

/// Whether Kubernetes makes this variable. `RELAY_ADMIN_PORT=9000` is rather a setting that was meant, so the value counts.
pub(super) fn makes(name: &str, value: &str) -> bool {
    // Those of a Service named `relay`, whatever their value.
    if name == "RELAY_PORT" || name.starts_with("RELAY_PORT_") || name.starts_with("RELAY_SERVICE_") {
        return true;
    }
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let has_port_name = name.split_once("_SERVICE_PORT_").is_some_and(|(_, port)| !port.is_empty());
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || has_port_name
        || is_port_part(name)
        || name.ends_with("_PORT") && is_url
}

/// Whether a name ends as `_PORT_80_TCP` and `_PORT_80_TCP_ADDR` do.
fn is_port_part(name: &str) -> bool {
    let strip = |name: &str, ends: [&str; 3]| ends.iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    let name = strip(name, ["_ADDR", "_PORT", "_PROTO"]).unwrap_or_else(|| name.to_owned());
    let name = strip(&name, ["_SCTP", "_TCP", "_UDP"]).unwrap_or_default();
    let parts = name.rsplit_once('_');
    parts.is_some_and(|(name, port)| name.ends_with("_PORT") && port.parse::<u16>().is_ok())
}
