package deploy

import (
	"strings"
	"testing"
)

// The schema refuses what would otherwise have no effect, or fail in the cluster.
func TestValuesAreRefused(t *testing.T) {
	for values, want := range map[string]string{
		"replica: 3":           "replica",
		"model: {pvc: models}": "pvc",
		"gpu: {tolerations: [{effekt: NoSchedule}]}":                              "effekt",
		"scaling: {enabled: true, maxReplicas: 0}":                                "maxReplicas",
		"scaling: {minReplicas: one}":                                             "minReplicas",
		"model: {source: s3}":                                                     "source",
		"model: {path: /inception}":                                               "path",
		"state: {size: 1 GB}":                                                     "size",
		"resources: {limits: {memory: 2 GB}}":                                     "memory",
		"config: {kafka: {broker: a:1}}":                                          "broker",
		"config: {kafka.group: photos}":                                           "kafka.group",
		"config: {kafka: {window.records: 5}}":                                    "window.records",
		"config: {kafka: {delivery: once}}":                                       "delivery",
		"config: {http: {listen: ':80'}}":                                         "listen",
		"config: {model: {dir: /m}}":                                              "dir",
		"config: {crash: {journal: off}}":                                         "crash",
		"config: {shutdown: {timeout: 20}}":                                       "timeout",
		"config: {shutdown: {timeout: '${T}'}}":                                   "timeout",
		"config: {kafka: null}":                                                   "kafka",
		"networkPolicy: {kafka: {ports: [70000]}}":                                "ports",
		"env: [{name: A, valu: b}]":                                               "valu",
		"model: {source: image}":                                                  "model.image.reference",
		"model: {source: init}":                                                   "model.init.image",
		"model: {claim: ''}":                                                      "model.claim",
		"config: {kafka: {brokers: kafka}}":                                       "networkPolicy.kafka.ports",
		"scaling: {enabled: true, minReplicas: 9}":                                "scaling.minReplicas is above",
		"{scaling: {enabled: true}, config: {kafka: {group: '${G}'}}}":            "KEDA replaces no",
		"{scaling: {enabled: true}, config: {kafka: {tls: {enabled: '${T}'}}}}":   "KEDA replaces no",
		"{scaling: {enabled: true}, config: {kafka: {sasl: {mechanism: PLAIN}}}}": "scaling.authentication",
		"{scaling: {enabled: true}, env: [{name: INCEPTOR_KAFKA_SASL_MECHANISM, value: PLAIN}]}": "INCEPTOR_KAFKA_SASL_MECHANISM",
		"env: [{name: A}, {name: INCEPTOR_KAFKA_DELIVERY, value: exactly_once}]":                 "INCEPTOR_KAFKA_DELIVERY",
		"env: [{name: INCEPTOR_KAFKA_INSTANCE_ID, value: '${POD_NAME}'}]":                        "INCEPTOR_KAFKA_INSTANCE_ID",
		"env: [{name: INCEPTOR_CRASH_JOURNAL, value: /j}]":                                       "INCEPTOR_CRASH_JOURNAL",
		"config: {kafka: {delivery: '${D}'}}":                                                    "config.kafka.delivery",
		"networkPolicy: {modelServer: {ports: [0]}}":                                             "ports",
		"model: {init: {pullPolicy: Sometimes}}":                                                 "pullPolicy",
		"model: {init: {resources: {limits: {memory: 1 GB}}}}":                                   "memory",
		"podMonitor: {nativeHistograms: maybe}":                                                  "nativeHistograms",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", values, err, want)
		}
	}
}
