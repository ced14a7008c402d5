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
		`"serving" is what the service does with the version: what each input takes, how pixels are made and how that is known, which outputs are read, where the words of classes come from, and what is assumed or missing, with the line to write. ` +
		`The code that decides it is that of "inceptor run". ` +
		`A version is complete if its files are, and if the service would take it, as far as files tell. Otherwise the exit status is 1. "inceptor check" also loads and runs the model.`
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
