package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
	"sigs.k8s.io/yaml"
)

// moduleFile reads a file of a module that schemas.txt names. Only the module's files are fetched,
// by testenv/setup.sh: its packages would bring the clients of every cloud.
func moduleFile(module, path string) ([]byte, error) {
	list, err := os.ReadFile("schemas.txt")
	if err != nil {
		return nil, err
	}
	for version := range strings.FieldsSeq(string(list)) {
		if !strings.HasPrefix(version, module+"@") {
			continue
		}
		out, err := exec.Command("go", "mod", "download", "-json", version).Output()
		if err != nil {
			return nil, fmt.Errorf("go mod download %s: %w", version, err)
		}
		var m struct{ Dir string }
		if err := json.Unmarshal(out, &m); err != nil {
			return nil, err
		}
		return os.ReadFile(filepath.Join(m.Dir, path))
	}
	return nil, fmt.Errorf("schemas.txt has no %s", module)
}

// definitions are the names in Kubernetes' OpenAPI of what the chart makes, by kubeconform's name
// of the schema.
var definitions = map[string]string{
	"configmap-v1":                  "core.v1.ConfigMap",
	"service-v1":                    "core.v1.Service",
	"persistentvolumeclaim-v1":      "core.v1.PersistentVolumeClaim",
	"deployment-apps-v1":            "apps.v1.Deployment",
	"statefulset-apps-v1":           "apps.v1.StatefulSet",
	"poddisruptionbudget-policy-v1": "policy.v1.PodDisruptionBudget",
	"networkpolicy-networking-v1":   "networking.v1.NetworkPolicy",
}

// kubeconform validates documents against the schemas of Kubernetes and KEDA. It would fetch them
// from the internet by itself, so they are made here of what the API server says of itself.
var kubeconform = sync.OnceValues(func() (validator.Validator, error) {
	write := func(name string, schema any) error {
		b, err := json.Marshal(schema)
		return errors.Join(err, os.WriteFile(filepath.Join(scratch, name+".json"), b, 0o600))
	}
	text, err := moduleFile("k8s.io/kubernetes", "api/openapi-spec/swagger.json")
	if err != nil {
		return nil, err
	}
	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(text, &api); err != nil {
		return nil, err
	}
	for _, definition := range api.Definitions {
		closeObjects(definition)
	}
	for _, also := range []string{"api.resource.Quantity", "util.intstr.IntOrString"} { // numbers, too
		api.Definitions["io.k8s.apimachinery.pkg."+also]["type"] = []string{"string", "integer"}
		delete(api.Definitions["io.k8s.apimachinery.pkg."+also], "format")
	}
	err = write("definitions", api)
	for name, definition := range definitions {
		err = errors.Join(err, write(name, map[string]string{"$ref": "definitions.json#/definitions/io.k8s.api." + definition}))
	}
	if text, kedaErr := moduleFile("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"); kedaErr != nil {
		err = errors.Join(err, kedaErr)
	} else {
		var crd struct {
			Spec struct {
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					} `json:"schema"`
				} `json:"versions"`
			} `json:"spec"`
		}
		err = errors.Join(err, yaml.Unmarshal(text, &crd))
		for _, version := range crd.Spec.Versions {
			closeObjects(version.Schema.OpenAPIV3Schema)
			err = errors.Join(err, write("scaledobject-keda-v1alpha1", version.Schema.OpenAPIV3Schema))
		}
	}
	if err != nil {
		return nil, err
	}
	return validator.New([]string{scratch + "/{{.ResourceKind}}{{.KindSuffix}}.json"}, validator.Opts{Strict: true})
})

// closeObjects makes a schema refuse the properties that it does not name, as the server does with
// strict validation.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, named := s["properties"]; named && s["type"] == "object" && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for _, below := range s {
			closeObjects(below)
		}
	case []any:
		for _, below := range s {
			closeObjects(below)
		}
	}
}

// conform tells what is wrong with a document; nil: nothing.
func conform(t *testing.T, name, text string) error {
	t.Helper()
	v, err := kubeconform()
	if err != nil {
		t.Fatal(err)
	}
	results := v.Validate(name, io.NopCloser(strings.NewReader(text)))
	for _, r := range results {
		if r.Status != validator.Valid {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, r.Err))
		}
	}
	if len(results) == 0 {
		return fmt.Errorf("%s: nothing was validated", name)
	}
	return err
}

// A mistake is found, or the other tests prove nothing.
func TestKubeconform(t *testing.T) {
	for text, want := range map[string]string{
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 1}]}}":                                           "",
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: a}]}}":                                           "port",
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {port: [{port: 1}]}}":                                            "port",
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {}, template: {spec: {containers: [{}]}}}}":   "name",
		"{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: a}, spec: {scaleTargetRef: {name: a}, triggers: [{}]}}": "metadata",
		"{apiVersion: v1, kind: Nothing, metadata: {name: a}}":                                                                       "schema",
	} {
		if err := conform(t, "x", text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
