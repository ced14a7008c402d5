package deploy

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

func loadCompose(t *testing.T, path string, content []byte) (*types.Project, error) {
	t.Helper()
	folder, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: folder, ConfigFiles: []types.ConfigFile{{Filename: path, Content: content}},
	})
}

// The compose file is one for Docker Compose, and what it mounts is there.
func TestCompose(t *testing.T) {
	project, err := loadCompose(t, "../../deploy/compose.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if names := project.ServiceNames(); !slices.Equal(names, []string{"grafana", "inceptor", "kafka", "prometheus", "topics"}) {
		t.Errorf("services: %v", names)
	}
	for name, s := range project.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published at %q", name, port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if !v.ReadOnly {
				t.Errorf("%s may write to %s", name, v.Source)
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, wrong := range []string{
		"services: {a: {image: x, comand: [y]}}",
		"services: {a: {image: x, depends_on: [b]}}",
		"services: {a: {image: x, ports: ['a:b']}}",
	} {
		if _, err := loadCompose(t, "wrong.yaml", []byte("name: wrong\n"+wrong)); err == nil {
			t.Errorf("it is taken: %s", wrong)
		}
	}
}

// The service's container is as locked as a pod, keeps its journal and state, and gets the time to
// stop that it wants.
func TestComposeService(t *testing.T) {
	project, err := loadCompose(t, "../../deploy/compose.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := project.Services["inceptor"]
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.MemLimit == 0 {
		t.Errorf("%+v", s)
	}
	cmd := exec.Command(program, append([]string{"config", "--config", "../../deploy/inceptor.yaml"}, s.Command[3:]...)...)
	cmd.Env = []string{"INCEPTOR_HTTP_LISTEN=0.0.0.0:8080", "INCEPTOR_MODEL_DIR=/models/inception"} // as the image has them
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+*value)
	}
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil || log.Len() > 0 {
		t.Fatalf("%v: %s%s", err, &log, out)
	}
	var settings struct {
		Kafka    struct{ Brokers []string }
		Crash    struct{ Journal string }
		Model    struct{ Dir, State string }
		Shutdown struct{ Timeout string }
	}
	if err := yaml.Unmarshal(out, &settings); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{settings.Crash.Journal, settings.Model.State, settings.Model.Dir} {
		at := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
			return path == v.Target || strings.HasPrefix(path, v.Target+"/")
		})
		if at < 0 || (path != settings.Model.Dir) != (s.Volumes[at].Type == types.VolumeTypeVolume) {
			t.Errorf("%s is on no volume, or on the wrong one", path)
		}
	}
	timeout, err := time.ParseDuration(settings.Shutdown.Timeout)
	if err != nil || s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < timeout+15*time.Second {
		t.Errorf("shutdown.timeout %v (%v), stop_grace_period %v", timeout, err, s.StopGracePeriod)
	}
	if !slices.Equal(settings.Kafka.Brokers, []string{"kafka:19092"}) {
		t.Errorf("brokers: %v", settings.Kafka.Brokers)
	}
	// The service's topics are made.
	topics := strings.Join(project.Services["topics"].Command, " ")
	for _, topic := range []string{"ImageInputTopic", "ImageOutputTopic", "ImageDeadLetterTopic"} {
		if !strings.Contains(topics, "create "+topic+" ") || !strings.Contains(string(out), topic) {
			t.Errorf("%s is not made, or not used", topic)
		}
	}
}

// Grafana's files name a data source at Prometheus, and the folder where the dashboard is mounted.
func TestGrafanaProvisioning(t *testing.T) {
	project, err := loadCompose(t, "../../deploy/compose.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var sources struct {
		APIVersion  int `json:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `json:"isDefault"`
		}
	}
	var dashboards struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	for path, into := range map[string]any{"datasources/prometheus.yaml": &sources, "dashboards/inceptor.yaml": &dashboards} {
		text, err := fs.ReadFile(os.DirFS("../../deploy/grafana/provisioning"), path)
		if err = errors.Join(err, yaml.UnmarshalStrict(text, into)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if len(sources.Datasources) != 1 || sources.Datasources[0].URL != "http://prometheus:9090" || sources.Datasources[0].Type != "prometheus" {
		t.Errorf("%+v", sources)
	}
	mounted := slices.ContainsFunc(project.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return len(dashboards.Providers) == 1 && filepath.Dir(v.Target) == dashboards.Providers[0].Options.Path && filepath.Ext(v.Source) == ".json"
	})
	if !mounted {
		t.Errorf("no dashboard is mounted where %+v looks", dashboards)
	}
}
