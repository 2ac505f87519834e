"""Custom resources of other projects that make Pods, and where all their versions name images.

The images of other kinds are evaluated in their Pods, or earlier if `admission.extra_kinds` names the kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.policy.paths import Path, Shape
from trow.policy.pods import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.policy.pods import Json

_CONTAINERS: Final = ("containers[*]", "initContainers[*]", "volumes[*].image")


@dataclass(frozen=True, slots=True)
class WellKnown:
    """A custom resource of another project.

    Attributes:
        resource: the plural name in paths and in the rules of webhooks.
        shape: where objects of the kind name images.
    """

    kind: Kind
    resource: str
    shape: Shape


def _shape(*paths: str) -> Shape:
    return Shape(map(Path.parse, paths))


def _argo_workflow() -> Shape:
    """``spec`` of https://argo-workflows.readthedocs.io/en/latest/fields/; templates contain templates."""
    template = _shape(
        "container", "script", "containerSet.containers[*]", "initContainers[*]", "sidecars[*]", "volumes[*].image"
    )
    template.nest("steps[*][*].inline", template).nest("dag.tasks[*].inline", template)
    return _shape("volumes[*].image").nest("templateDefaults", template).nest("templates[*]", template)


def _tekton_pipeline(task: Shape) -> Shape:
    """``spec`` of https://tekton.dev/docs/pipelines/pipeline-api/; pipelines contain tasks and pipelines."""
    pipeline = Shape()
    for tasks in ("tasks[*]", "finally[*]"):
        pipeline.nest(f"{tasks}.taskSpec", task).nest(f"{tasks}.pipelineSpec", pipeline)
    return pipeline


_POD: Final = _shape("template.spec")
_WORKFLOW: Final = _argo_workflow()
_TASK: Final = _shape("steps[*]", "stepTemplate", "sidecars[*]", "volumes[*].image")
_PIPELINE: Final = _tekton_pipeline(_TASK)
_MACHINE: Final = _shape("volumes[*].containerDisk", "domain.firmware.kernelBoot.container")
_KAFKA_CONNECT: Final = _shape("image", "clientRackInitImage")
_RAY: Final = _shape("headGroupSpec.template.spec", "workerGroupSpecs[*].template.spec")
# The operator of Elastic completes the Pod templates.
_ELASTIC: Final = _shape("image", "podTemplate.spec")
_ELASTIC_AGENT: Final = _shape(
    "image", "daemonSet.podTemplate.spec", "deployment.podTemplate.spec", "statefulSet.podTemplate.spec"
)
_SERVED: Final = _shape(
    *(
        f"{part}.{path}"
        for part in ("predictor", "transformer", "explainer")
        for path in (*_CONTAINERS, "model", "workerSpec.containers[*]")
    )
)
_CATALOG: Final = _shape("images[*].image")
_SPARK: Final = _shape(
    "image",
    *(f"{role}.{path}" for role in ("driver", "executor") for path in ("image", "sidecars[*]", "initContainers[*]")),
)

# By group, kind and resource: the shape of `spec`.
_SPECS: Final[Mapping[str, Mapping[tuple[str, str], Shape]]] = {
    # Kubernetes until 1.16.
    "extensions": {
        ("Deployment", "deployments"): _POD,
        ("DaemonSet", "daemonsets"): _POD,
        ("ReplicaSet", "replicasets"): _POD,
    },
    # Argo Rollouts and Argo Workflows.
    "argoproj.io": {
        ("Rollout", "rollouts"): _POD,
        ("Experiment", "experiments"): _shape("templates[*].template.spec"),
        ("AnalysisTemplate", "analysistemplates"): _shape("metrics[*].provider.job.spec.template.spec"),
        ("ClusterAnalysisTemplate", "clusteranalysistemplates"): _shape("metrics[*].provider.job.spec.template.spec"),
        ("AnalysisRun", "analysisruns"): _shape("metrics[*].provider.job.spec.template.spec"),
        ("Workflow", "workflows"): _WORKFLOW,
        ("WorkflowTemplate", "workflowtemplates"): _WORKFLOW,
        ("ClusterWorkflowTemplate", "clusterworkflowtemplates"): _WORKFLOW,
        ("CronWorkflow", "cronworkflows"): Shape().nest("workflowSpec", _WORKFLOW),
        ("EventSource", "eventsources"): _shape("template.container"),
        ("Sensor", "sensors"): _shape("template.container"),
    },
    # Knative.
    "serving.knative.dev": {
        ("Service", "services"): _POD,
        ("Configuration", "configurations"): _POD,
        ("Revision", "revisions"): _shape(*_CONTAINERS),
    },
    "sources.knative.dev": {("ContainerSource", "containersources"): _POD},
    "sinks.knative.dev": {("JobSink", "jobsinks"): _shape("job.spec.template.spec")},
    # Tekton.
    "tekton.dev": {
        ("Task", "tasks"): _TASK,
        ("ClusterTask", "clustertasks"): _TASK,
        ("StepAction", "stepactions"): _shape("image"),
        ("TaskRun", "taskruns"): Shape().nest("taskSpec", _TASK),
        ("Pipeline", "pipelines"): _PIPELINE,
        ("PipelineRun", "pipelineruns"): Shape().nest("pipelineSpec", _PIPELINE),
    },
    "triggers.tekton.dev": {
        ("EventListener", "eventlisteners"): _shape("resources.kubernetesResource.spec.template.spec")
    },
    # KubeVirt.
    "kubevirt.io": {
        ("VirtualMachine", "virtualmachines"): Shape().nest("template.spec", _MACHINE),
        ("VirtualMachineInstance", "virtualmachineinstances"): _MACHINE,
        ("VirtualMachineInstanceReplicaSet", "virtualmachineinstancereplicasets"): Shape().nest(
            "template.spec", _MACHINE
        ),
    },
    "pool.kubevirt.io": {
        ("VirtualMachinePool", "virtualmachinepools"): Shape().nest(
            "virtualMachineTemplate.spec.template.spec", _MACHINE
        )
    },
    # Strimzi.
    "kafka.strimzi.io": {
        ("Kafka", "kafkas"): _shape(
            "kafka.image",
            "kafka.brokerRackInitImage",
            "zookeeper.image",
            "entityOperator.topicOperator.image",
            "entityOperator.userOperator.image",
            "entityOperator.tlsSidecar.image",
            "cruiseControl.image",
            "cruiseControl.tlsSidecar.image",
            "kafkaExporter.image",
            "jmxTrans.image",
        ),
        ("KafkaConnect", "kafkaconnects"): _KAFKA_CONNECT,
        ("KafkaMirrorMaker", "kafkamirrormakers"): _shape("image"),
        ("KafkaMirrorMaker2", "kafkamirrormaker2s"): _KAFKA_CONNECT,
        ("KafkaBridge", "kafkabridges"): _KAFKA_CONNECT,
    },
    # Prometheus operator; its older `baseImage` is part of a name only.
    "monitoring.coreos.com": {
        ("Prometheus", "prometheuses"): _shape("image", "thanos.image", *_CONTAINERS),
        ("PrometheusAgent", "prometheusagents"): _shape("image", *_CONTAINERS),
        ("Alertmanager", "alertmanagers"): _shape("image", *_CONTAINERS),
        ("ThanosRuler", "thanosrulers"): _shape("image", *_CONTAINERS),
    },
    # OpenKruise.
    "apps.kruise.io": {
        ("CloneSet", "clonesets"): _POD,
        ("StatefulSet", "statefulsets"): _POD,
        ("DaemonSet", "daemonsets"): _POD,
        ("BroadcastJob", "broadcastjobs"): _POD,
        ("AdvancedCronJob", "advancedcronjobs"): _shape(
            "template.jobTemplate.spec.template.spec", "template.broadcastJobTemplate.spec.template.spec"
        ),
        ("SidecarSet", "sidecarsets"): _shape(*_CONTAINERS),
        ("UnitedDeployment", "uniteddeployments"): _shape(
            *(
                f"template.{template}.spec.template.spec"
                for template in (
                    "statefulSetTemplate",
                    "advancedStatefulSetTemplate",
                    "cloneSetTemplate",
                    "deploymentTemplate",
                )
            )
        ),
        ("ImagePullJob", "imagepulljobs"): _shape("image"),
        ("ImageListPullJob", "imagelistpulljobs"): _shape("images[*]"),
    },
    # Batches: JobSet, LeaderWorkerSet, Volcano, Kubeflow, Ray, Spark, KEDA.
    "jobset.x-k8s.io": {("JobSet", "jobsets"): _shape("replicatedJobs[*].template.spec.template.spec")},
    "leaderworkerset.x-k8s.io": {
        ("LeaderWorkerSet", "leaderworkersets"): _shape(
            "leaderWorkerTemplate.leaderTemplate.spec", "leaderWorkerTemplate.workerTemplate.spec"
        )
    },
    "batch.volcano.sh": {("Job", "jobs"): _shape("tasks[*].template.spec")},
    "kubeflow.org": {
        ("TFJob", "tfjobs"): _shape("tfReplicaSpecs.*.template.spec"),
        ("PyTorchJob", "pytorchjobs"): _shape("pytorchReplicaSpecs.*.template.spec"),
        ("MPIJob", "mpijobs"): _shape("mpiReplicaSpecs.*.template.spec"),
        ("XGBoostJob", "xgboostjobs"): _shape("xgbReplicaSpecs.*.template.spec"),
        ("PaddleJob", "paddlejobs"): _shape("paddleReplicaSpecs.*.template.spec"),
        ("JAXJob", "jaxjobs"): _shape("jaxReplicaSpecs.*.template.spec"),
        ("Notebook", "notebooks"): _POD,
    },
    "ray.io": {
        ("RayCluster", "rayclusters"): _RAY,
        ("RayJob", "rayjobs"): _shape("submitterPodTemplate.spec").nest("rayClusterSpec", _RAY),
        ("RayService", "rayservices"): Shape().nest("rayClusterConfig", _RAY),
    },
    "sparkoperator.k8s.io": {
        ("SparkApplication", "sparkapplications"): _SPARK,
        ("ScheduledSparkApplication", "scheduledsparkapplications"): Shape().nest("template", _SPARK),
    },
    "flink.apache.org": {
        ("FlinkDeployment", "flinkdeployments"): _shape(
            "image", "podTemplate.spec", "jobManager.podTemplate.spec", "taskManager.podTemplate.spec"
        )
    },
    "serving.kserve.io": {
        ("InferenceService", "inferenceservices"): _SERVED,
        ("ServingRuntime", "servingruntimes"): _shape(*_CONTAINERS),
        ("ClusterServingRuntime", "clusterservingruntimes"): _shape(*_CONTAINERS),
    },
    "keda.sh": {("ScaledJob", "scaledjobs"): _shape("jobTargetRef.template.spec")},
    # Others.
    "apps.openshift.io": {("DeploymentConfig", "deploymentconfigs"): _POD},
    "actions.github.com": {("AutoscalingRunnerSet", "autoscalingrunnersets"): _POD},
    "agones.dev": {
        ("GameServer", "gameservers"): _POD,
        ("GameServerSet", "gameserversets"): _shape("template.spec.template.spec"),
        ("Fleet", "fleets"): _shape("template.spec.template.spec"),
    },
    "postgresql.cnpg.io": {
        ("Cluster", "clusters"): _shape("imageName"),
        ("Pooler", "poolers"): _POD,
        ("ImageCatalog", "imagecatalogs"): _CATALOG,
        ("ClusterImageCatalog", "clusterimagecatalogs"): _CATALOG,
    },
    "acid.zalan.do": {("postgresql", "postgresqls"): _shape("dockerImage", "sidecars[*]", "initContainers[*]")},
    "rabbitmq.com": {
        ("RabbitmqCluster", "rabbitmqclusters"): _shape("image", "override.statefulSet.spec.template.spec")
    },
    "grafana.integreatly.org": {("Grafana", "grafanas"): _shape("deployment.spec.template.spec")},
    "elasticsearch.k8s.elastic.co": {
        ("Elasticsearch", "elasticsearches"): _shape("image", "nodeSets[*].podTemplate.spec")
    },
    "kibana.k8s.elastic.co": {("Kibana", "kibanas"): _ELASTIC},
    "apm.k8s.elastic.co": {("ApmServer", "apmservers"): _ELASTIC},
    "enterprisesearch.k8s.elastic.co": {("EnterpriseSearch", "enterprisesearches"): _ELASTIC},
    "maps.k8s.elastic.co": {("ElasticMapsServer", "elasticmapsservers"): _ELASTIC},
    "logstash.k8s.elastic.co": {("Logstash", "logstashes"): _ELASTIC},
    "beat.k8s.elastic.co": {("Beat", "beats"): _ELASTIC_AGENT},
    "agent.k8s.elastic.co": {("Agent", "agents"): _ELASTIC_AGENT},
    "opentelemetry.io": {
        ("OpenTelemetryCollector", "opentelemetrycollectors"): _shape(
            "image", "initContainers[*]", "additionalContainers[*]", "volumes[*].image"
        )
    },
}


WELL_KNOWN: Final[Mapping[Kind, WellKnown]] = {
    (kind := Kind(group, name)): WellKnown(kind, resource, Shape().nest("spec", spec))
    for group, kinds in _SPECS.items()
    for (name, resource), spec in kinds.items()
}
# The parameters of Argo and Tekton, which their controllers replace when they make Pods.
_PARAMETERS: Final = ("{{", "$(")


def has_parameters(kind: Kind, text: str) -> bool:
    """Whether a text is the template of an image name, whose parameters the controller of the kind replaces."""
    return not kind.known and any(mark in text for mark in _PARAMETERS)


# The fields with lists of containers in Pods and in kinds that are like Pods.
_LISTS: Final = frozenset({"containers", "initContainers", "ephemeralContainers", "sidecars", "steps"})


def seems_to_name_images(kind: Kind, item: Json) -> bool:
    """Whether an object of an unknown kind looks as if it made Pods: a guess, for a warning."""
    built_in = "." not in kind.group or kind.group.endswith(".k8s.io")
    return not built_in and _has_containers(item)


def _has_containers(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_containers, value))
    if not isinstance(value, dict):
        return False
    lists = (found for name in _LISTS if isinstance(found := value.get(name), list))
    if any(isinstance(each, dict) and "image" in each for found in lists for each in found):
        return True
    return (bool(value.get("image")) and isinstance(value["image"], str)) or any(map(_has_containers, value.values()))
