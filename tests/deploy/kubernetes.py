"""Checks the manifests: renders them with kustomize, and compares them with their schemas and with the program."""

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import fastjsonschema

from image import Container, Image, own
from setup import DEPLOY, PINS, ROOT, eventually, hansa, kubectl, read_yaml, servers, settings

HERE = DEPLOY / "kubernetes"
OVERLAYS = ["single", "cluster"]
COMPONENTS = ["tls", "network-policies", "otlp", "prometheus"]
# The rendered sets: each overlay without components, with each independent component, and with all components.
SETS = [(), ("tls",), ("network-policies",), ("otlp",), ("otlp", "prometheus"), tuple(COMPONENTS)]
KUBERNETES = "1.37.0"
WORKLOADS = {"Deployment", "StatefulSet", "CronJob"}
# CloudNativePG and cert-manager create these secrets. docs/runbook.md says how to create all others.
MADE_BY_OTHERS = {"hansa-postgres-ca", "hansa-tls"}


def render(overlay, components):
    """Returns the documents of an overlay with components, combined as in the example."""
    with tempfile.TemporaryDirectory() as folder:
        to = os.path.relpath(HERE, Path(folder).resolve())
        parts = ", ".join(f"{to}/components/{one}" for one in components)
        lines = ["namespace: hansa", f"resources: [{to}/overlays/{overlay}]", f"components: [{parts}]"]
        (Path(folder) / "kustomization.yaml").write_text("\n".join(lines), encoding="utf-8")
        return rendered(folder)


def rendered(folder):
    """Returns the documents of a kustomization."""
    command = [str(kubectl()), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return read_yaml(done.stdout)


def live_name():
    """Returns the name of the liveness check in the health service of the program."""
    source = (ROOT / "services/chassis/src/server.rs").read_text(encoding="utf-8")
    return re.search(r'LIVE: &str = "([^"]+)"', source)[1]


class Schemas:
    """Strict schemas: for Kubernetes from the pinned package, for custom resources from tests/deploy/schemas."""

    def __init__(self):
        # Only the schemas of the package are used, because the package itself needs further packages.
        home = Path(importlib.util.find_spec("kubernetes_validate").origin).parent / "kubernetes-json-schema"
        file = home / f"v{KUBERNETES}-local-strict" / "_definitions.json"
        self.definitions = json.loads(file.read_text(encoding="utf-8"))["$defs"]
        self.known = {}

    def of(self, document):
        """Returns the validator for a document."""
        version, kind = document["apiVersion"], document["kind"]
        if (version, kind) not in self.known:
            self.known[version, kind] = self.make(version, kind)
        return self.known[version, kind]

    def make(self, version, kind):
        own = PINS.parent / "schemas" / f"{version.replace('/', '-')}-{kind}.json"
        if own.exists():
            return fastjsonschema.compile(json.loads(own.read_text(encoding="utf-8")))
        group, _, number = version.rpartition("/")
        wanted = {"group": group, "kind": kind, "version": number}
        (name,) = [
            name for name, one in self.definitions.items() if wanted in one.get("x-kubernetes-group-version-kind", [])
        ]
        return fastjsonschema.compile({"$ref": f"#/$defs/{name}", "$defs": self.definitions}, use_formats=False)


def pod(document):
    """Returns labels and specification of the pod of a workload."""
    template = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
    return template["template"]["metadata"]["labels"], template["template"]["spec"]


def ours(container):
    """Returns whether a container runs hansa."""
    return container["image"].startswith("hansa:")


def workloads(documents):
    """Returns the documents that run pods."""
    return [one for one in documents if one["kind"] in WORKLOADS]


def containers(specification):
    """Returns all containers of a pod."""
    return [*specification.get("initContainers", []), *specification["containers"]]


def selected(selector, labels):
    """Returns whether a selector matches these labels."""
    matches = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In", one
        matches = matches and labels.get(one["key"]) in one["values"]
    return matches


class Rendered(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schemas = Schemas()
        cls.sets = {(overlay, parts): render(overlay, parts) for overlay, parts in itertools.product(OVERLAYS, SETS)}

    def each(self):
        """Yields every rendered set. A failure message names the set."""
        for self.where, documents in self.sets.items():
            yield documents

    def _formatMessage(self, msg, standardMsg):  # noqa: N802  (a name of unittest)
        return f"{getattr(self, 'where', '')} {super()._formatMessage(msg, standardMsg)}"

    def each_hansa(self):
        """Yields every container that runs hansa, with all documents, its workload and its pod."""
        for documents in self.each():
            for one in workloads(documents):
                for container in filter(ours, containers(pod(one)[1])):
                    yield documents, one, pod(one)[1], container

    def test_every_document_fits_its_schema(self):
        for documents in self.each():
            for one in documents:
                try:
                    self.schemas.of(one)(one)
                except fastjsonschema.JsonSchemaException as error:
                    self.fail(f"{one['kind']} {one['metadata']['name']}: {error.message}")

    def test_the_schemas_refuse_what_is_not_in_them(self):
        (documents, *_), broken = self.sets.values(), 0
        for one in [*self.sets["cluster", tuple(COMPONENTS)], *documents]:
            wrong = {**one, "spec": {**one.get("spec", {}), "nosuchfield": 1}}
            if "spec" in one:
                with self.assertRaises(fastjsonschema.JsonSchemaException, msg=one["kind"]):
                    self.schemas.of(one)(wrong)
                broken += 1
        self.assertGreater(broken, 10)

    def test_the_example_is_the_cluster_with_all_components(self):
        self.assertEqual(rendered(HERE / "example"), self.sets["cluster", tuple(COMPONENTS)])

    def test_all_names_are_in_one_namespace(self):
        for documents in self.each():
            for one in documents:
                if one["kind"] != "Namespace":
                    self.assertEqual(one["metadata"].get("namespace"), "hansa", one["metadata"]["name"])
            names = [(one["kind"], one["metadata"]["name"]) for one in documents]
            self.assertEqual(len(names), len(set(names)))

    def test_the_program_takes_every_setting_and_argument(self):
        seen = {}
        for documents, _, specification, container in self.each_hansa():
            found, told = self.configured(documents, specification, container)
            help_ = hansa(*container["args"], "--help")
            self.assertEqual(help_.returncode, 0, f"{container['args']}: {help_.stderr}")
            if container["args"][0] == "serve":
                only = container["args"][2:]
                self.assertLessEqual(set(only), set(told["services"]))
                seen.setdefault(id(documents), []).extend(only or told["services"])
                port = int(found["listen"]["value"].rpartition(":")[2])
                self.assertEqual([one["containerPort"] for one in container["ports"]], [port])
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    self.check_probe(container[probe], port, found, live=probe != "readinessProbe")
        for services in seen.values():
            self.assertEqual(sorted(services), sorted(told["services"]), "each service must run once")

    def configured(self, documents, specification, container):
        """Returns the settings as the program reads them in this container."""
        variables = Image().environment()
        known = {}
        for one in container["env"]:
            if "valueFrom" in one:
                known[one["name"]] = "x1y2z3"
            else:
                for used in re.findall(r"\$\(([A-Z_]+)\)", one["value"]):
                    self.assertIn(used, known, f"{one['name']} uses a variable that is defined later")
                known[one["name"]] = re.sub(r"\$\(([A-Z_]+)\)", lambda m: known[m[1]], one["value"])
        self.assertEqual(len(known), len(container["env"]), "a variable is defined twice")
        variables |= {name: value for name, value in known.items() if name.startswith("HANSA")}
        mounted = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in specification["volumes"]}
        with tempfile.TemporaryDirectory() as folder:
            if "HANSA_CONFIG" in variables:
                place = Path(variables["HANSA_CONFIG"])
                volume = volumes[mounted[str(place.parent)]["name"]]
                (file,) = [
                    one["data"][place.name] for one in documents
                    if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]
                ]
                variables["HANSA_CONFIG"] = f"{folder}/{place.name}"
                Path(variables["HANSA_CONFIG"]).write_text(file, encoding="utf-8")
            found, told = settings(environment=variables)
        for key in ("node_key", "tls_certificate", "tls_key"):
            if value := found[key]["value"]:
                self.assertIn(str(Path(value).parent), mounted, f"{key}: {value} is not mounted")
        for path in re.findall(r"sslrootcert=([^&]+)", str(found["database"]["value"])):
            self.assertIn(str(Path(path).parent), mounted)
        if found["database"]["value"] is None:
            self.assertFalse(mounted[found["data"]["value"]].get("readOnly", False), "the data folder must be writable")
        return found, told

    def check_probe(self, probe, port, found, live):
        """Checks that a probe uses the protocol of the server. Only the readiness probe asks whether the program
        serves. The others ask whether it lives."""
        if found["tls_certificate"]["value"] is None:
            self.assertEqual(probe["grpc"], {"port": port} | ({"service": live_name()} if live else {}))
            return
        self.assertEqual("--live" in probe["exec"]["command"], live)
        self.assertNotIn("grpc", probe, "the gRPC probe of the kubelet does not support TLS")
        command = probe["exec"]["command"]
        self.assertEqual(command[0], json.loads(Image().one("ENTRYPOINT"))[0])
        self.assertEqual(command[3], f"https://localhost:{port}")
        help_ = hansa(*command[1:], "--help")
        self.assertEqual(help_.returncode, 0, help_.stderr)

    def test_a_pod_has_no_rights_and_no_variables_of_services(self):
        for documents in self.each():
            for one in workloads(documents):
                name, (_, specification) = one["metadata"]["name"], pod(one)
                self.assertFalse(specification["automountServiceAccountToken"], name)
                # Kubernetes would add variables like HANSA_REGISTER_SERVICE_HOST, which the program refuses as unknown.
                self.assertFalse(specification["enableServiceLinks"], name)
                security = specification["securityContext"]
                self.assertTrue(security["runAsNonRoot"] and security["runAsUser"] > 0, name)
                self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"}, name)
                for container in containers(specification):
                    confined = {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
                    }
                    self.assertEqual(container["securityContext"], confined, name)
                    self.assertIn("memory", container["resources"]["limits"], name)
                    self.assertEqual(set(container["resources"]["requests"]), {"cpu", "memory"}, name)

    def test_user_and_image_are_the_images_own(self):
        for _, one, specification, container in self.each_hansa():
            user, group = Image().user()
            security = specification["securityContext"]
            found = (security["runAsUser"], security["runAsGroup"], security["fsGroup"])
            self.assertEqual(found, (user, group, group), one["metadata"]["name"])
            self.assertNotIn("command", container, "the container must use the entry point of the image")
            version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), flags=re.M)[1]
            self.assertEqual(container["image"], f"hansa:{version}")

    def test_the_end_of_a_pod_leaves_time_to_drain(self):
        limits = (ROOT / "services/chassis/src/limits.rs").read_text(encoding="utf-8")
        drain, flush = [
            int(re.search(rf"const {name}: Duration = Duration::from_secs\((\d+)\)", limits)[1])
            for name in ("DRAIN", "TELEMETRY_FLUSH")
        ]
        for _, _, specification, container in self.each_hansa():
            if container["args"][0] == "serve":
                before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                # TELEMETRY_FLUSH applies to traces, logs and metrics separately.
                self.assertGreater(specification["terminationGracePeriodSeconds"], before + drain + 3 * flush)

    def test_migrations_run_before_the_new_version_serves(self):
        for documents in self.each():
            for one in documents:
                if one["kind"] != "Deployment" or not ours(pod(one)[1]["containers"][0]):
                    continue
                (migrate,), (serve,) = pod(one)[1]["initContainers"], pod(one)[1]["containers"]
                self.assertEqual(migrate["args"], ["migrate", *serve["args"][1:]])
                self.assertEqual(migrate["image"], serve["image"])
                of = {env["name"]: env for env in serve["env"]}
                for env in migrate["env"]:
                    self.assertEqual(env, of[env["name"]], "the migration must use the same database and key")

    def test_every_selector_takes_its_pods_and_no_others(self):
        for documents in self.each():
            labels = {one["metadata"]["name"]: pod(one)[0] for one in workloads(documents)}
            for one in documents:
                if one["kind"] in ("Deployment", "StatefulSet"):
                    mine = [name for name, found in labels.items() if selected(one["spec"]["selector"], found)]
                    self.assertEqual(mine, [one["metadata"]["name"]])
                if one["kind"] == "Service":
                    mine = [name for name, found in labels.items() if selected({"matchLabels": one["spec"]["selector"]}, found)]
                    self.assertEqual(len(mine), 1, one["metadata"]["name"])
                    self.check_ports(documents, one, mine[0])
                if one["kind"] == "PodDisruptionBudget":
                    mine = [name for name, found in labels.items() if selected(one["spec"]["selector"], found)]
                    self.assertEqual(mine, [one["metadata"]["name"]])
                if one["kind"] == "HorizontalPodAutoscaler":
                    target = one["spec"]["scaleTargetRef"]
                    self.assertIn((target["kind"], target["name"]), [(d["kind"], d["metadata"]["name"]) for d in documents])
                    (scaled,) = [d for d in workloads(documents) if d["metadata"]["name"] == target["name"]]
                    self.assertNotIn("replicas", scaled["spec"], "a rollout would reset the autoscaler")

    def check_ports(self, documents, service, workload):
        (one,) = [one for one in workloads(documents) if one["metadata"]["name"] == workload]
        named = {port["name"]: port["containerPort"] for c in containers(pod(one)[1]) for port in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            self.assertEqual(named[port["targetPort"]], port["port"])

    def test_what_is_mounted_is_there(self):
        for documents in self.each():
            maps = {one["metadata"]["name"] for one in documents if one["kind"] == "ConfigMap"}
            claims = {one["metadata"]["name"] for one in documents if one["kind"] == "PersistentVolumeClaim"}
            accounts = {one["metadata"]["name"] for one in documents if one["kind"] == "ServiceAccount"}
            for one in workloads(documents):
                _, specification = pod(one)
                of_templates = {c["metadata"]["name"] for c in one["spec"].get("volumeClaimTemplates", [])}
                names = {volume["name"] for volume in specification.get("volumes", [])} | of_templates
                for container in containers(specification):
                    self.assertLessEqual({mount["name"] for mount in container["volumeMounts"]}, names)
                for volume in specification.get("volumes", []):
                    if "configMap" in volume:
                        self.assertIn(volume["configMap"]["name"], maps)
                    if "persistentVolumeClaim" in volume:
                        self.assertIn(volume["persistentVolumeClaim"]["claimName"], claims)
                if "serviceAccountName" in specification:
                    self.assertIn(specification["serviceAccountName"], accounts)

    def test_the_runbook_makes_every_secret(self):
        runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
        made = set(re.findall(r"create secret generic ([a-z-]+[a-z])", runbook))
        users = re.search(r"for user in ([a-z ]+); do", runbook)[1].split()
        self.assertIn('"hansa-database-$user"', runbook)
        made |= {f"hansa-database-{user}" for user in users}
        wanted = set()
        for documents in self.each():
            text = json.dumps([pod(one)[1] for one in workloads(documents)] + [one for one in documents if one["kind"] == "Cluster"])
            wanted |= set(re.findall(r'"secretName": "([^"]+)"', text))
            wanted |= set(re.findall(r'"(?:secretKeyRef|passwordSecret)": \{[^}]*"name": "([^"]+)"', text))
        self.assertEqual(wanted - MADE_BY_OTHERS, made)

    def test_postgres_has_a_connection_for_everyone(self):
        limits = (ROOT / "services/journal/src/limits.rs").read_text(encoding="utf-8")
        each = int(re.search(r"POSTGRES_CONNECTIONS: u32 = (\d+)", limits)[1]) + 1
        documents = self.sets["cluster", ()]
        (cluster,) = [one for one in documents if one["kind"] == "Cluster"]
        scalers = [one["spec"]["maxReplicas"] for one in documents if one["kind"] == "HorizontalPodAutoscaler"]
        # During a rollout each service has one more process, and a Job of the node may open all databases.
        most = sum((replicas + 1) * each for replicas in scalers) + len(scalers) * each
        self.assertLess(most, int(cluster["spec"]["postgresql"]["parameters"]["max_connections"]))
        roles = {role["name"]: role for role in cluster["spec"]["managed"]["roles"]}
        _, told = settings()
        for service in told["services"]:
            self.assertEqual(roles[service]["passwordSecret"]["name"], f"hansa-database-{service}")
            self.assertIn(
                f"CREATE SCHEMA {service} AUTHORIZATION {service}",
                cluster["spec"]["bootstrap"]["initdb"]["postInitApplicationSQL"],
            )

    def test_nats_reads_its_configuration(self):
        documents = self.sets["cluster", ()]
        (one,) = [one for one in documents if one["kind"] == "StatefulSet"]
        (config,) = [d["data"]["nats.conf"] for d in documents if d["kind"] == "ConfigMap" and "nats.conf" in d["data"]]
        (container,) = pod(one)[1]["containers"]
        known = {}
        for env in container["env"]:
            value = env.get("value", "1e5secret")
            known[env["name"]] = re.sub(r"\$\(([A-Z_]+)\)", lambda m: known[m[1]], value)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "nats.conf"
            file.write_text(config.replace('"/data"', f'"{folder}/data"'), encoding="utf-8")
            command = [str(servers.tool("nats-server")), "-t", "--config", str(file)]
            said = subprocess.run(command, env=known, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(said.returncode, 0, said.stderr)
        peers = re.findall(r"@([a-z0-9-]+)\.([a-z-]+):6222", known["NATS_ROUTES"])
        name, service = one["metadata"]["name"], one["spec"]["serviceName"]
        self.assertEqual(peers, [(f"{name}-{n}", service) for n in range(one["spec"]["replicas"])])
        kept = [
            env["value"] for d in workloads(documents) for c in containers(pod(d)[1]) if ours(c)
            for env in c["env"] if env["name"] == "HANSA_NATS_REPLICAS"
        ]
        self.assertTrue(kept and all(int(each) == one["spec"]["replicas"] for each in kept))

    def test_a_certificate_names_every_service_and_the_probes_host(self):
        for overlay in OVERLAYS:
            documents = self.sets[overlay, tuple(COMPONENTS)]
            (certificate,) = [one for one in documents if one["kind"] == "Certificate"]
            names = set(certificate["spec"]["dnsNames"])
            self.assertIn("localhost", names)
            for one in documents:
                if one["kind"] == "Service" and one["spec"]["selector"].get("app.kubernetes.io/name") == "hansa":
                    self.assertLessEqual({one["metadata"]["name"], f"{one['metadata']['name']}.hansa.svc"}, names)


class Started(unittest.TestCase):
    """Starts a pod of the overlay `single` in the root of the image, with its arguments, variables, mounts and user.
    The init container runs first, and the key has the owner and mode that Kubernetes gives it."""

    def test_the_pod_of_one_process_starts_and_is_well(self):
        documents = render("single", ())
        (one,) = workloads(documents)
        (migrate,), (serve,) = pod(one)[1]["initContainers"], pod(one)[1]["containers"]
        with tempfile.TemporaryDirectory(prefix="hansa-pod-") as folder:
            work = Path(folder)
            work.chmod(0o755)
            image = Image()
            root = image.assemble(work)
            volumes = {volume["name"]: self.fill(image, work / volume["name"], volume, documents) for volume in pod(one)[1]["volumes"]}
            mounts = {
                mount["mountPath"]: (volumes[mount["name"]], not mount.get("readOnly", False)) for mount in serve["volumeMounts"]
            }
            self.assertEqual([m["mountPath"] for m in migrate["volumeMounts"]], list(mounts), "the mounts differ")
            container = Container(image, root, mounts)
            (entry,) = json.loads(image.one("ENTRYPOINT"))
            variables = {each["name"]: each["value"] for each in serve["env"]}
            first = container.run([entry, *migrate["args"]], **variables)
            self.assertEqual(first.returncode, 0, first.stderr)
            self.serves(container, [entry, *serve["args"]], work / "log", variables)
            well = container.run([entry, "doctor"], **variables)
            self.assertEqual(well.returncode, 0, well.stdout + well.stderr)
            self.assertIn("has mode 440", well.stdout)

    def fill(self, image, place, volume, documents):
        """Creates the content of a volume. Returns its folder."""
        place.mkdir()
        if "configMap" in volume:
            (data,) = [
                one["data"] for one in documents
                if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]
            ]
            for name, text in data.items():
                (place / name).write_text(text, encoding="utf-8")
        elif "secret" in volume:
            key = place / "node.key"
            key.write_text("5e" * 32, encoding="utf-8")
            key.chmod(volume["secret"]["defaultMode"])
            own(image, key, group_only=True)
        else:
            own(image, place)
        return place

    def serves(self, container, words, log, variables):
        """Checks that the program starts, that its probe succeeds, and that the program exits with success."""
        listen = {"HANSA_LISTEN": f"127.0.0.1:{servers.free_port()}"}
        with open(log, "wb") as out:
            running = container.start(words, out, **variables, **listen)
        try:

            def up():
                self.assertIsNone(running.poll(), log.read_text(encoding="utf-8"))
                return container.run(container.image.probe(), **variables, **listen).returncode == 0

            eventually("the program serves", up)
        finally:
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(timeout=40), 0, log.read_text(encoding="utf-8"))


class Policies(unittest.TestCase):
    """The network policies deny everything except the needed paths."""

    @classmethod
    def setUpClass(cls):
        cls.policies = [
            one for one in render("cluster", ("network-policies", "otlp")) if one["kind"] == "NetworkPolicy"
        ]

    def rules(self, labels, direction):
        """Returns the rules for a pod in a direction, and whether any policy applies."""
        mine = [
            one["spec"] for one in self.policies
            if selected(one["spec"]["podSelector"], labels) and direction.capitalize() in one["spec"]["policyTypes"]
        ]
        return [rule for one in mine for rule in one.get(direction, [])], bool(mine)

    def permits(self, labels, direction, other, port):
        """Returns whether the policies of a pod permit a connection with another pod."""
        rules, held = self.rules(labels, direction)
        peers = "from" if direction == "ingress" else "to"
        return not held or any(
            any(one["port"] == port for one in rule["ports"])
            and (peers not in rule or any(selected(peer["podSelector"], other) for peer in rule[peers] if "podSelector" in peer))
            for rule in rules
        )

    def goes(self, source, target, port):
        """Returns whether both the source and the target permit a connection."""
        return self.permits(source, "egress", target, port) and self.permits(target, "ingress", source, port)

    def test_each_needed_path_and_no_other(self):
        name = "app.kubernetes.io/name"
        pods = {
            "register": {name: "hansa", "app.kubernetes.io/component": "register"},
            "strategy": {name: "hansa", "app.kubernetes.io/component": "strategy"},
            "doctor": {name: "hansa-doctor"}, "nats": {name: "nats"}, "collector": {name: "collector"},
            "postgres": {"cnpg.io/cluster": "hansa-postgres"}, "stranger": {name: "stranger"},
        }
        needed = {
            *((caller, "postgres", 5432) for caller in ("register", "strategy", "doctor", "postgres")),
            *((caller, "nats", 4222) for caller in ("register", "strategy", "doctor")),
            *((caller, "collector", 4317) for caller in ("register", "strategy")), ("nats", "nats", 6222),
        }
        ports = (5432, 4222, 6222, 8222, 4317, 8889, 7400, 9187, 8000)
        open_ = {
            (source, target, port) for source, target, port in itertools.product(pods, pods, ports)
            if self.goes(pods[source], pods[target], port)
        }
        self.assertEqual(open_, needed)

    def test_labels_of_the_policies_are_labels_of_pods(self):
        documents = render("cluster", ("network-policies", "otlp"))
        labels = [pod(one)[0] for one in workloads(documents)] + [{"cnpg.io/cluster": "hansa-postgres"}]
        (cluster,) = [one["metadata"]["name"] for one in documents if one["kind"] == "Cluster"]
        self.assertEqual(cluster, "hansa-postgres")
        for one in self.policies:
            if one["spec"]["podSelector"]:
                self.assertTrue(any(selected(one["spec"]["podSelector"], found) for found in labels), one["metadata"]["name"])


if __name__ == "__main__":
    sys.exit("run `check.py kubernetes`")
