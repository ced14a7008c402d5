package service

import (
	"strings"
	"testing"

	"inceptor/model"
	"inceptor/model/remote"
)

// An answer says version 0 of version 0, and where the model server does not
// tell; the version that was wanted is there only if another one has answered.
func TestAnswerVersions(t *testing.T) {
	zero, three := int64(0), int64(3)
	for _, test := range []struct {
		name    string
		version int64
		wanted  *int64
		want    string
	}{
		{"as wanted", 2, nil, `"version":2,"backend":`},
		{"version 0", 0, nil, `"version":0,"backend":`},
		{"not told", remote.NoVersion, nil, `"version":0,"backend":`},
		{"another", 2, &three, `"version":2,"backend":"remote","wanted_version":3,`},
		{"another than 0", 2, &zero, `"version":2,"backend":"remote","wanted_version":0,`},
	} {
		p := model.Prediction{Info: model.Info{Model: "m", Version: test.version}, Backend: model.BackendRemote, Wanted: test.wanted}
		b, err := NewAnswer(p).JSON()
		if err != nil || !strings.Contains(string(b), test.want) || test.wanted == nil && strings.Contains(string(b), "wanted_version") {
			t.Errorf("%s: got %s, %v, want %s", test.name, b, err, test.want)
		}
	}
}
