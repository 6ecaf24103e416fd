//! The manifests of `config/kubernetes`, of one relay and of a fleet: they fit the schemas of Kubernetes, and the relay runs with what they
//! say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use segment_relay::config::{DefaultValue, FILE_SETTINGS, SETTINGS};
use serde_json::Value;

use crate::harness::postgres::Cluster;
use crate::harness::{Relay, Segment, ada, client};
use crate::proxied::free_port;

/// The oldest Kubernetes for which the manifests are, and the newest that kubernetes-validate knows.
const VERSIONS: [&str; 2] = ["1.27", "1.37"];

/// Prints all documents of YAML files as one list in JSON.
const AS_JSON: &str = "import json, sys, yaml\n\
                       print(json.dumps([one for name in sys.argv[1:] for one in yaml.safe_load_all(open(name))]))";

/// A program that `tests/tools/kubernetes` installs.
fn tool(name: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of what is built");
    let program = target.join("tools/kubernetes/bin").join(name);
    assert!(program.exists(), "{name} is missing: run tests/tools/kubernetes");
    Command::new(program)
}

/// A folder with manifests.
#[derive(Clone, Copy, Debug)]
struct Manifests {
    folder: &'static str,
    /// The kind of what makes pods.
    workload: &'static str,
}

/// One relay with a volume, and a fleet.
const ALL: [Manifests; 2] = [
    Manifests { folder: "config/kubernetes", workload: "StatefulSet" },
    Manifests { folder: "config/kubernetes/fleet", workload: "Deployment" },
];

impl Manifests {
    fn home(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    /// Every manifest's file, without the kustomization.
    fn files(self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.home()).expect("manifests").map(|entry| entry.expect("a file").path());
        let is_manifest =
            |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("kustomization.yaml");
        paths.filter(is_manifest).collect()
    }

    /// All documents of a kind.
    fn of_kind(self, kind: &str) -> Vec<Value> {
        documents(&self.files()).into_iter().filter(|document| document["kind"] == kind).collect()
    }

    /// What makes the pods.
    fn workload(self) -> Value {
        let [workload] = &self.of_kind(self.workload)[..] else { panic!("one {}", self.workload) };
        workload.clone()
    }

    /// What a pod is made from.
    fn pod(self) -> Value {
        self.workload()["spec"]["template"].clone()
    }
}

/// The documents of these files.
fn documents(files: &[PathBuf]) -> Vec<Value> {
    let output = tool("python").args(["-c", AS_JSON]).args(files).output().expect("python");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn container(pod: &Value) -> &Value {
    let [container] = &pod["spec"]["containers"].as_array().expect("containers")[..] else { panic!("one container") };
    container
}

/// The container's variables.
fn variables(pod: &Value) -> Vec<(String, String)> {
    let all = container(pod)["env"].as_array().expect("variables").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

/// What a setting is in the container.
fn setting(pod: &Value, name: &str) -> String {
    let default = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.default);
    let set = variables(pod).into_iter().find(|(variable, _)| variable == name).map(|(_, value)| value);
    match (set, default) {
        (Some(value), _) => value,
        (None, Some(DefaultValue::Value(value))) => value.to_owned(),
        _ => panic!("{name} has no value"),
    }
}

/// The container's port of this name.
fn port(pod: &Value, name: &Value) -> u64 {
    let mut ports = container(pod)["ports"].as_array().expect("ports").iter();
    let port = ports.find(|port| &port["name"] == name).unwrap_or_else(|| panic!("no port {name}"));
    port["containerPort"].as_u64().expect("a number")
}

#[test]
fn the_manifests_fit_the_schemas_of_kubernetes() {
    for manifests in ALL {
        for version in VERSIONS {
            let mut validate = tool("kubernetes-validate");
            let validate = validate.args(["--strict", "-k", version]).args(manifests.files());
            let output = validate.output().expect("kubernetes-validate");
            assert!(output.status.success(), "{version}: {output:?}");
        }
    }
}

#[test]
fn the_kustomization_has_every_manifest() {
    for manifests in ALL {
        let home = manifests.home();
        let [kustomization] = &documents(&[home.join("kustomization.yaml")])[..] else { panic!("one document") };
        let names = kustomization["resources"].as_array().expect("resources").iter();
        let named: BTreeSet<_> = names.map(|name| home.join(name.as_str().expect("text"))).collect();
        assert_eq!(named, manifests.files().into_iter().collect());
    }
}

#[test]
fn every_variable_is_a_setting() {
    for (name, _) in ALL.iter().flat_map(|manifests| variables(&manifests.pod())) {
        let is_setting = SETTINGS.iter().any(|setting| setting.name == name);
        let is_of_file = FILE_SETTINGS.iter().any(|setting| format!("{setting}_FILE") == name);
        assert!(is_setting || is_of_file, "{name} is not a setting");
    }
}

#[test]
fn the_pod_has_time_to_stop_and_no_rights() {
    for pod in ALL.map(Manifests::pod) {
        let seconds = |name| setting(&pod, name).trim_end_matches('s').parse::<u64>().expect("seconds");
        let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
        // A stop takes half a second more.
        assert!(grace > seconds("RELAY_SHUTDOWN_DELAY") + seconds("RELAY_SHUTDOWN_GRACE"));
        let (of_pod, of_container) = (&pod["spec"]["securityContext"], &container(&pod)["securityContext"]);
        assert_eq!((&of_pod["runAsNonRoot"], &of_pod["runAsUser"]), (&true.into(), &65532.into()));
        assert_eq!(of_container["readOnlyRootFilesystem"], true);
        assert_eq!(of_container["allowPrivilegeEscalation"], false);
        assert_eq!(of_container["capabilities"]["drop"], serde_json::json!(["ALL"]));
    }
}

#[test]
fn services_and_policies_lead_to_the_pod() {
    for manifests in ALL {
        let pod = manifests.pod();
        let labels = &pod["metadata"]["labels"];
        for service in manifests.of_kind("Service") {
            assert_eq!(&service["spec"]["selector"], labels);
            for leads in service["spec"]["ports"].as_array().expect("ports") {
                port(&pod, &leads["targetPort"]);
            }
        }
        for (kind, selector) in
            [("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector"), (manifests.workload, "selector")]
        {
            let [document] = &manifests.of_kind(kind)[..] else { panic!("one {kind}") };
            assert_eq!(&document["spec"][selector]["matchLabels"], labels, "{kind}");
        }
        for spread in pod["spec"]["topologySpreadConstraints"].as_array().into_iter().flatten() {
            assert_eq!(&spread["labelSelector"]["matchLabels"], labels);
        }
        let [policy] = &manifests.of_kind("NetworkPolicy")[..] else { panic!("one NetworkPolicy") };
        for rule in policy["spec"]["ingress"].as_array().expect("rules") {
            port(&pod, &rule["ports"][0]["port"]);
        }
    }
}

#[test]
fn a_rolling_update_of_the_fleet_has_as_many_pods_as_before_and_tells_balancers_first() {
    let [_, fleet] = ALL;
    let (workload, pod) = (fleet.workload(), fleet.pod());
    assert_eq!(workload["spec"]["strategy"]["rollingUpdate"], serde_json::json!({"maxUnavailable": 0, "maxSurge": 1}));
    assert!(workload["spec"]["replicas"].as_u64().expect("a number") > 1);
    // A pod that stops leaves the list of senders' Service while it serves.
    let services = fleet.of_kind("Service");
    let senders = services.iter().find(|service| service["spec"]["ports"][0]["targetPort"] == "senders");
    assert!(senders.expect("a Service for senders")["spec"]["publishNotReadyAddresses"].is_null());
    assert_eq!(setting(&pod, "RELAY_SHUTDOWN_DELAY"), "10s");
    // No disk belongs to a pod.
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    assert!(volumes.iter().all(|volume| volume.get("secret").or(volume.get("configMap")).is_some()), "{volumes:?}");
}

#[test]
fn the_document_makes_every_file_of_the_secret() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kubernetes.md");
    let document = fs::read_to_string(document).expect("a document");
    for (name, path) in ALL.iter().flat_map(|manifests| variables(&manifests.pod())) {
        if name.ends_with("_FILE") {
            let file = path.rsplit('/').next().expect("a name");
            assert!(document.contains(&format!("--from-file={file}=")), "{name}: {file}");
        }
    }
}

/// Starts the relay with the settings of a pod, and asks what its probes and a sender ask. Paths and ports are other ones.
async fn starts_and_answers(manifests: Manifests, outbox_url: &str) {
    let (pod, segment, directory) =
        (manifests.pod(), Segment::start().await, tempfile::tempdir().expect("a directory"));
    let (secrets, operators) = (directory.path().join("secrets"), format!("127.0.0.1:{}", free_port()));
    fs::create_dir(&secrets).expect("a directory");
    fs::write(secrets.join("write-key"), crate::harness::WRITE_KEY).expect("a file");
    fs::write(secrets.join("admin-token"), crate::harness::TOKEN).expect("a file");
    fs::write(secrets.join("sender-tokens"), "t0ken-of-a-sender\n").expect("a file");
    fs::write(secrets.join("outbox-url"), outbox_url).expect("a file");
    // The paths of the container, and the ports of a pod.
    let places = [
        ("/run/secrets/segment-relay", secrets.display().to_string()),
        ("/var/lib/segment-relay", directory.path().join("outbox").display().to_string()),
        ("/etc/segment-relay", manifests.home().display().to_string()),
        ("0.0.0.0:8080", "127.0.0.1:0".to_owned()),
        ("0.0.0.0:9090", operators.clone()),
    ];
    assert_eq!(setting(&pod, "RELAY_LISTEN"), format!("0.0.0.0:{}", port(&pod, &"senders".into())));
    assert_eq!(setting(&pod, "RELAY_ADMIN_LISTEN"), format!("0.0.0.0:{}", port(&pod, &"operators".into())));
    let mut settings = variables(&pod);
    for (_, value) in &mut settings {
        *value = places.iter().fold(value.clone(), |value, (from, to)| value.replace(from, to));
    }
    settings.push(("SEGMENT_ENDPOINT".to_owned(), segment.url().to_owned()));
    // The harness has another write key.
    let mut shown: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    shown.push(("SEGMENT_WRITE_KEY", ""));
    let relay = Relay::start(&shown).await;
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container(&pod)[probe]["httpGet"];
        assert_eq!(get["port"], "operators", "{probe}");
        let path = get["path"].as_str().expect("a path");
        let answer = client().get(format!("http://{operators}{path}")).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{probe}");
    }
    let answer = relay.post_request(&ada()).bearer_auth("t0ken-of-a-sender").send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    assert_eq!(relay.get("/metrics").await.status, 404, "metrics are for operators");
}

#[tokio::test]
async fn the_relay_starts_with_the_settings_of_the_pod_and_answers_its_probes() {
    let [single, fleet] = ALL;
    starts_and_answers(single, "").await;
    let cluster = Cluster::shared();
    starts_and_answers(fleet, &cluster.url(&cluster.create_database().await)).await;
}
