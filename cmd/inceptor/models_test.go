package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inceptor/model"
	"inceptor/service"
)

// The table has headings, fits into 100 columns, and says below a version what no column holds.
func TestModelsTable(t *testing.T) {
	at := time.Date(2026, 11, 30, 1, 57, 52, 0, time.Local)
	digest := "sha256:06df2e2b8410227b3d4beb75f26dd01a2cfbe6361a1d08565b797bf938ede1ef"
	var out strings.Builder
	err := printVersions(&out, []model.Status{
		{Version: 12, State: model.StateFailed, Since: at, Bytes: 88 << 20, Gate: "complete", Reason: "variables/variables.data-00000-of-00001 has 1000 bytes, and the index names 1001: " +
			"it is not complete, so another look is taken when its files change"},
		{Version: 4, State: model.StateServing, Label: model.LabelStable, Chosen: true, Since: at, Bytes: 88 << 20, Digest: digest,
			Kernels: "onednn", Precision: "bfloat16", Probation: at.Add(time.Minute)},
		{Version: 3, State: model.StateRolledBack, Since: at, Digest: digest, Reason: "by-hand: somebody asked for it"},
		{Version: 1, State: model.StateClosed},
	})
	const want = `VERSION  STATE        LABEL   RUNS IN          SINCE                SIZE      DIGEST
12       failed                                2026-11-30 01:57:52  88.0 MiB
    complete: variables/variables.data-00000-of-00001 has 1000 bytes, and the index names 1001: it
    is not complete, so another look is taken when its files change
4*       serving      stable  bfloat16 onednn  2026-11-30 01:57:52  88.0 MiB  06df2e2b8410
    on probation until 01:58:52
3        rolled-back                           2026-11-30 01:57:52            06df2e2b8410
    by-hand: somebody asked for it
1        closed
`
	if err != nil || out.String() != want {
		t.Errorf("got\n%s\nwant\n%s\n%v", &out, want, err)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > tableColumns+1 {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
}

// models finds the service by the same setting as run.
func TestModelsAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", ":8080": "localhost:8080", "0.0.0.0:81": "localhost:81", "[::]:81": "localhost:81",
		"models.example:80": "models.example:80", "": "is empty", "127.0.0.1:0": "has port 0", "nonsense": "http.listen: address nonsense",
	} {
		got, err := dialAddress(listen)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: %q, want %q", listen, got, want)
		}
	}

	serving := int64(3)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = json.NewEncoder(w).Encode(service.Change{Version: new(serving)})
			serving = 1
			return
		}
		_ = json.NewEncoder(w).Encode([]model.Status{{Version: serving, State: model.StateServing, Label: model.LabelStable}})
	}))
	defer server.Close()
	listen := server.Listener.Addr().(*net.TCPAddr).String()
	for _, test := range []struct {
		name string
		args []string
		env  string
		want string
	}{
		{name: "flag", args: []string{"models", "--http.listen", listen}, want: "3        serving  stable"},
		{name: "old flag", args: []string{"models", "--address", listen}, want: "3        serving  stable"},
		{name: "environment", args: []string{"models"}, env: listen, want: "3        serving  stable"},
		{name: "file", args: []string{"models", "--config", configFile(t, "http:\n  listen: "+listen+"\nkafka.group: g\n")}, want: "3        serving  stable"},
		{name: "JSON", args: []string{"models", "--json", "--http.listen", listen}, want: `"state": "serving"`},
		{name: "rollback", args: []string{"models", "rollback", "--http.listen", listen}, want: "version 3 was rolled back\nversion 1 serves\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.env != "" {
				t.Setenv("INCEPTOR_HTTP_LISTEN", test.env)
			}
			if code, stdout, stderr := execute(t, test.args...); code != 0 || !strings.Contains(stdout, test.want) {
				t.Errorf("exit status %d, want %q\n%s%s", code, test.want, stdout, stderr)
			}
		})
	}
}
