package savedmodel

import (
	"slices"
	"strconv"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// restoredKeys tells which value of the checkpoint each variable gets when
// TensorFlow's loader runs the graph's restore operation: from the variable's
// node in the main graph to the key in the index.
func restoredKeys(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, work *budget) (map[string]string, error) {
	saver := mg.GetSaverDef()
	if saver.GetRestoreOpName() == "" {
		return nil, refuse("it has no variables to restore")
	}
	g := newFlatGraph(mg, ops, work)
	if err := g.addAction(saver.GetRestoreOpName()); err != nil {
		return nil, err
	}
	keys := make(map[string]string)
	for _, name := range g.order {
		n := g.nodes[name]
		if n.GetOp() != "AssignVariableOp" || len(n.GetInput()) < 2 {
			continue
		}
		handle := g.handle(n.GetInput()[0])
		key, ok := g.restoredKey(n.GetInput()[1], nodeOf(saver.GetFilenameTensorName()))
		_, twice := keys[handle]
		if handle == "" || !ok || twice {
			return nil, refuse("it is not clear what the restore operation gives to %q", n.GetInput()[0])
		}
		keys[handle] = key
	}
	return keys, nil
}

// addAction adds what runs with an operation of the main graph.
func (g *flatGraph) addAction(operation string) error {
	operation = nodeOf(operation)
	if _, err := g.control(g.main, operation); err != nil {
		return err
	}
	n := g.main.nodes[operation]
	if !isCall(n) {
		return nil
	}
	for i := range g.functions[n.GetAttr()["f"].GetFunc().GetName()].GetSignature().GetOutputArg() {
		if _, err := g.tensor(g.main, output(operation, i)); err != nil {
			return err
		}
	}
	return nil
}

// restoredKey follows a tensor back to the output of a RestoreV2 that reads
// the file that the loader names.
func (g *flatGraph) restoredKey(tensor, file string) (string, bool) {
	for range maxCallDepth {
		n := g.nodes[nodeOf(tensor)]
		if len(n.GetInput()) == 0 {
			return "", false
		}
		switch n.GetOp() {
		case "Identity":
			tensor = n.GetInput()[0]
		case "RestoreV2":
			if len(n.GetInput()) < 3 || g.source(n.GetInput()[0]) != file {
				return "", false
			}
			index := 0
			if _, number, ok := strings.Cut(tensor, ":"); ok {
				var err error
				if index, err = strconv.Atoi(number); err != nil {
					return "", false
				}
			}
			keys := g.nodes[n.GetInput()[1]].GetAttr()["value"].GetTensor().GetStringVal()
			parts := g.nodes[n.GetInput()[2]].GetAttr()["value"].GetTensor().GetStringVal()
			if index >= len(keys) || len(parts) == 0 || len(parts[min(index, len(parts)-1)]) > 0 {
				return "", false
			}
			return string(keys[index]), true
		default:
			return "", false
		}
	}
	return "", false
}

// source follows a tensor back through operations that hand it on.
func (g *flatGraph) source(tensor string) string {
	for range maxCallDepth {
		n := g.nodes[tensor]
		if g.fed[tensor] || n.GetOp() != "Identity" || len(n.GetInput()) == 0 {
			break
		}
		tensor = n.GetInput()[0]
	}
	return tensor
}

// changedAtStart lists the variables that the model's own initialization
// takes, after their values were restored.
func changedAtStart(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, work *budget) (map[string]bool, error) {
	var operations []string
	for _, info := range mg.GetSignatureDef()[initOpKey].GetOutputs() {
		operations = append(operations, info.GetName())
	}
	for _, key := range []string{"saved_model_main_op", "legacy_init_op"} {
		operations = append(operations, mg.GetCollectionDef()[key].GetNodeList().GetValue()...)
	}
	g := newFlatGraph(mg, ops, work)
	for _, name := range operations {
		if err := g.addAction(name); err != nil {
			return nil, err
		}
	}
	reads := []string{"ReadVariableOp", "VarIsInitializedOp", "Identity"}
	changed := make(map[string]bool)
	for _, n := range g.nodes {
		for _, in := range n.GetInput() {
			if handle := g.handle(in); handle != "" && !slices.Contains(reads, n.GetOp()) {
				changed[handle] = true
			}
		}
	}
	return changed, nil
}
