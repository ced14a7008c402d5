package main

import (
	"context"
	"encoding/json"
	"errors"

	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
)

type inspectCmd struct {
	Dir  string `arg:"" help:"Directory of the version: the one that holds saved_model.pb." placeholder:"DIR"`
	JSON bool   `name:"json" help:"Print JSON."`

	Variables bool `help:"List every variable, not only the largest."`

	Input content `embed:"" prefix:"input." group:"Input"`
}

// Help is the long help.
func (*inspectCmd) Help() string {
	return `Lists tags, signatures, variables, assets, warm-up requests and the digest, and names every file that is missing or short. ` +
		`"serving" is what the service does with the version: what each input takes, how pixels are made and where that is known from, which outputs are read, whose words the classes have, and what is assumed or missing, with the line to write. ` +
		`It is decided by the same code as when "inceptor run" loads the version. ` +
		`It is complete if its files are, and if the service would take it, as far as files tell that: "inceptor check" loads and runs the model as well. ` +
		`Exit status 1 if it is not complete.`
}

// An inspection is what is printed as JSON.
type inspection struct {
	*savedmodel.Info
	Serving model.Explanation `json:"serving"`
}

func (c *inspectCmd) Run(a *app) error {
	info, err := savedmodel.Inspect(c.Dir)
	if err != nil {
		return err
	}
	if info.Digest, err = savedmodel.Digest(context.Background(), c.Dir); err != nil {
		return err
	}
	serving := model.Explain(c.Dir, service.Config{Input: c.Input.config()}.ModelConfig().Content)
	failure := errors.New("the version is incomplete")
	if info.Complete && serving.Refused != "" {
		failure = errors.New("the service would refuse the version")
		info.Complete, info.Missing = false, []string{"the service refuses it: " + serving.Refused}
	}
	switch {
	case c.JSON:
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		err = e.Encode(inspection{info, serving})
	case c.Variables:
		err = errors.Join(info.WriteText(a.stdout), info.WriteVariables(a.stdout))
	default:
		err = errors.Join(info.WriteText(a.stdout), serving.WriteText(a.stdout))
	}
	if err == nil && !info.Complete {
		err = failure
	}
	return err
}
