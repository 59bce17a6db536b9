package example.millrace.programs;

import com.google.protobuf.FieldMask;
import com.google.protobuf.util.Durations;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityOptions;
import io.temporal.api.batch.v1.BatchOperationSignal;
import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.enums.v1.BatchOperationState;
import io.temporal.api.enums.v1.BatchOperationType;
import io.temporal.api.enums.v1.EventType;
import io.temporal.api.enums.v1.PendingActivityState;
import io.temporal.api.enums.v1.ScheduleOverlapPolicy;
import io.temporal.api.enums.v1.WorkflowIdConflictPolicy;
import io.temporal.api.workflow.v1.PendingActivityInfo;
import io.temporal.api.workflowservice.v1.DescribeBatchOperationRequest;
import io.temporal.api.workflowservice.v1.DescribeBatchOperationResponse;
import io.temporal.api.workflowservice.v1.ListBatchOperationsRequest;
import io.temporal.api.workflowservice.v1.PauseActivityRequest;
import io.temporal.api.workflowservice.v1.ResetActivityRequest;
import io.temporal.api.workflowservice.v1.ResetWorkflowExecutionRequest;
import io.temporal.api.workflowservice.v1.StartBatchOperationRequest;
import io.temporal.api.workflowservice.v1.UnpauseActivityRequest;
import io.temporal.api.workflowservice.v1.UpdateActivityOptionsRequest;
import io.temporal.client.UpdateOptions;
import io.temporal.client.WithStartWorkflowOperation;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowNotFoundException;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowStub;
import io.temporal.client.WorkflowTargetOptions;
import io.temporal.client.WorkflowUpdateException;
import io.temporal.client.WorkflowUpdateHandle;
import io.temporal.client.WorkflowUpdateStage;
import io.temporal.client.schedules.Schedule;
import io.temporal.client.schedules.ScheduleActionStartWorkflow;
import io.temporal.client.schedules.ScheduleAlreadyRunningException;
import io.temporal.client.schedules.ScheduleBackfill;
import io.temporal.client.schedules.ScheduleCalendarSpec;
import io.temporal.client.schedules.ScheduleClient;
import io.temporal.client.schedules.ScheduleClientOptions;
import io.temporal.client.schedules.ScheduleException;
import io.temporal.client.schedules.ScheduleHandle;
import io.temporal.client.schedules.ScheduleIntervalSpec;
import io.temporal.client.schedules.ScheduleOptions;
import io.temporal.client.schedules.SchedulePolicy;
import io.temporal.client.schedules.ScheduleRange;
import io.temporal.client.schedules.ScheduleSpec;
import io.temporal.client.schedules.ScheduleState;
import io.temporal.client.schedules.ScheduleUpdate;
import io.temporal.common.RetryOptions;
import io.temporal.failure.ApplicationFailure;
import io.temporal.workflow.QueryMethod;
import io.temporal.workflow.SignalMethod;
import io.temporal.workflow.UpdateMethod;
import io.temporal.workflow.UpdateValidatorMethod;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInit;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowLock;
import io.temporal.workflow.WorkflowMethod;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Subscriptions whose plans are changed by updates, and what their operator does: holds back an activity, begins a run
 * again, has invoices made by a schedule, and cancels several subscriptions at once.
 *
 * <p>The recorded histories are those of a subscription that is changed, of one that is started by its first change, of
 * one whose activity is paused, of the first begun again, of three invoices for hours that are past, and of a
 * subscription that a batch cancels.
 */
final class Subscriptions {
  private static final String OPERATOR = "operator";
  private static final Duration RETRY_AFTER = Duration.ofMillis(500);
  private static final Instant NEW_YEAR = Instant.parse("2026-01-01T00:00:00Z");
  private static final int INVOICES = 3;
  private static final int IN_BATCH = 3;

  @WorkflowInterface
  public interface Subscription {
    @WorkflowMethod
    String run(String plan);

    @UpdateMethod
    String changePlan(String plan);

    @UpdateValidatorMethod(updateName = "changePlan")
    void checkPlan(String plan);

    @QueryMethod
    String plan();

    @SignalMethod
    void cancel();
  }

  @WorkflowInterface
  public interface Invoice {
    @WorkflowMethod
    int make(String customer);
  }

  @ActivityInterface
  public interface Payments {
    String charge(String plan);
  }

  public static final class SubscriptionWorkflow implements Subscription {
    private final Payments payments =
        Workflow.newActivityStub(
            Payments.class,
            ActivityOptions.newBuilder()
                .setStartToCloseTimeout(Duration.ofSeconds(10))
                .setRetryOptions(
                    RetryOptions.newBuilder().setInitialInterval(RETRY_AFTER).setBackoffCoefficient(1).build())
                .build());
    // A run that begins again is given all its changes in one workflow task: their activities must keep their order.
    private final WorkflowLock changing = Workflow.newWorkflowLock();
    private String plan;
    private boolean cancelled;

    @WorkflowInit
    public SubscriptionWorkflow(String plan) {
      this.plan = plan;
    }

    @Override
    public String run(String plan) {
      Workflow.await(() -> cancelled && Workflow.isEveryHandlerFinished());
      return this.plan;
    }

    @Override
    public String changePlan(String plan) {
      changing.lock();
      try {
        String receipt = payments.charge(plan);
        this.plan = plan;
        return receipt;
      } finally {
        changing.unlock();
      }
    }

    @Override
    public void checkPlan(String plan) {
      if (plan.isEmpty()) {
        throw new IllegalArgumentException("a plan has a name");
      }
    }

    @Override
    public String plan() {
      return plan;
    }

    @Override
    public void cancel() {
      cancelled = true;
    }
  }

  public static final class InvoiceWorkflow implements Invoice {
    @Override
    public int make(String customer) {
      Integer last = Workflow.getLastCompletionResult(Integer.class);
      return last == null ? 1 : last + 1;
    }
  }

  public static final class PaymentsActivities implements Payments {
    private volatile boolean open = true;

    @Override
    public String charge(String plan) {
      if (!open) {
        throw ApplicationFailure.newFailure("the bank is closed", "Closed");
      }
      Stage.narrate("activity: charging for " + plan);
      return "receipt for " + plan;
    }
  }

  static void play(Stage stage) throws Exception {
    var payments = new PaymentsActivities();
    stage.worker.registerWorkflowImplementationTypes(SubscriptionWorkflow.class, InvoiceWorkflow.class);
    stage.worker.registerActivitiesImplementations(payments);
    stage.startWorker();

    WorkflowExecution changed = changes(stage);
    startedByItsFirstChange(stage);
    pausedActivity(stage, payments);
    beginsAgain(stage, changed);
    schedule(stage);
    batch(stage);
  }

  private static Subscription start(Stage stage, String id) throws Exception {
    Subscription subscription = stage.client.newWorkflowStub(Subscription.class, stage.workflowOptions(id));
    WorkflowClient.start(subscription::run, "basic");
    stage.untilIdle(WorkflowStub.fromTyped(subscription));
    return subscription;
  }

  /** Returns the run, which is closed. */
  private static WorkflowExecution changes(Stage stage) throws Exception {
    Subscription subscription = start(stage, "changed");
    WorkflowStub workflow = WorkflowStub.fromTyped(subscription);
    stage.add("changed", workflow);
    Stage.expect("the plan", "basic", subscription.plan());

    Stage.expect("the receipt", "receipt for silver", subscription.changePlan("silver"));
    Stage.expect("the plan", "silver", subscription.plan());
    try {
      subscription.changePlan("");
      throw new Stage.Unexpected("a plan without a name was accepted");
    } catch (WorkflowUpdateException rejected) {
      ApplicationFailure why = (ApplicationFailure) rejected.getCause();
      Stage.expect("the error's type", IllegalArgumentException.class.getName(), why.getType());
      Stage.expect("the error", "a plan has a name", why.getOriginalMessage());
    }
    Stage.narrate("client: an update that is not valid is rejected");

    WorkflowUpdateHandle<String> toGold = workflow.startUpdate(accepted("to-gold"), "gold");
    Stage.expect("the receipt", "receipt for gold", toGold.getResult());
    WorkflowUpdateHandle<String> again = workflow.startUpdate(accepted("to-gold"), "platinum");
    Stage.expect("the receipt", "receipt for gold", again.getResult());
    Stage.expect("the plan", "gold", subscription.plan());
    Stage.narrate("client: an update of the same id is the same update");

    Subscription running =
        withStart(stage, "changed", WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING);
    var start = new WithStartWorkflowOperation<>(running::run, "basic");
    String receipt =
        WorkflowClient.executeUpdateWithStart(running::changePlan, "bronze", completed("to-bronze"), start);
    Stage.expect("the receipt", "receipt for bronze", receipt);
    Stage.expect(
        "the run that was changed",
        workflow.getExecution().getRunId(),
        WorkflowStub.fromTyped(running).getExecution().getRunId());
    Stage.narrate("client: an update with a start meets the workflow that runs");

    subscription.cancel();
    Stage.expect("the result", "bronze", stage.result(workflow, String.class));
    Stage.expect("the plan", "bronze", subscription.plan());
    try {
      subscription.changePlan("basic");
      throw new Stage.Unexpected("a subscription that had ended was changed");
    } catch (WorkflowNotFoundException ended) {
      Stage.narrate("client: a workflow that has ended takes no update");
    }
    return workflow.getExecution();
  }

  private static void startedByItsFirstChange(Stage stage) throws Exception {
    Subscription subscription =
        withStart(stage, "started", WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL);
    var start = new WithStartWorkflowOperation<>(subscription::run, "basic");
    WorkflowUpdateHandle<String> toSilver =
        WorkflowClient.startUpdateWithStart(subscription::changePlan, "silver", accepted("to-silver"), start);
    stage.add("started", WorkflowStub.fromTyped(subscription));
    Stage.expect("the receipt", "receipt for silver", toSilver.getResult());
    subscription.cancel();
    Stage.expect("the result", "silver", start.getResult());
    Stage.narrate("client: an update starts its workflow");
  }

  private static Subscription withStart(Stage stage, String id, WorkflowIdConflictPolicy policy) {
    var options = WorkflowOptions.newBuilder(stage.workflowOptions(id)).setWorkflowIdConflictPolicy(policy).build();
    return stage.client.newWorkflowStub(Subscription.class, options);
  }

  private static UpdateOptions<String> accepted(String id) {
    return changePlan(id, WorkflowUpdateStage.ACCEPTED);
  }

  private static UpdateOptions<String> completed(String id) {
    return changePlan(id, WorkflowUpdateStage.COMPLETED);
  }

  private static UpdateOptions<String> changePlan(String id, WorkflowUpdateStage stage) {
    return UpdateOptions.newBuilder(String.class)
        .setUpdateName("changePlan")
        .setUpdateId(id)
        .setWaitForStage(stage)
        .build();
  }

  private static void pausedActivity(Stage stage, PaymentsActivities payments) throws Exception {
    payments.open = false;
    Subscription subscription = start(stage, "paused");
    WorkflowStub workflow = WorkflowStub.fromTyped(subscription);
    stage.add("paused", workflow);
    WorkflowUpdateHandle<String> toGold = workflow.startUpdate(accepted("to-gold"), "gold");
    Stage.until("an attempt to fail", () -> pending(workflow).hasLastFailure());

    String activity = pending(workflow).getActivityId();
    stage.api().pauseActivity(
        PauseActivityRequest.newBuilder()
            .setNamespace(stage.namespace())
            .setExecution(workflow.getExecution())
            .setId(activity)
            .setIdentity(OPERATOR)
            .setReason("a look at it")
            .setRequestId(UUID.randomUUID().toString())
            .build());
    // An attempt that is under way when the activity is paused comes to its end first.
    Stage.until(
        "the activity to be paused",
        () -> pending(workflow).getState() == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED);
    var manual = pending(workflow).getPauseInfo().getManual();
    Stage.expect("who paused it", OPERATOR, manual.getIdentity());
    Stage.expect("why it is paused", "a look at it", manual.getReason());
    Stage.expect("the activity", "Charge", pending(workflow).getActivityType().getName());
    Stage.narrate("operator: the activity is paused");

    var options =
        stage.api().updateActivityOptions(
            UpdateActivityOptionsRequest.newBuilder()
                .setNamespace(stage.namespace())
                .setExecution(workflow.getExecution())
                .setId(activity)
                .setIdentity(OPERATOR)
                .setActivityOptions(
                    io.temporal.api.activity.v1.ActivityOptions.newBuilder()
                        .setStartToCloseTimeout(Durations.fromSeconds(20)))
                .setUpdateMask(FieldMask.newBuilder().addPaths("start_to_close_timeout"))
                .build());
    Stage.expect("the time-out", 20L, options.getActivityOptions().getStartToCloseTimeout().getSeconds());
    Stage.expect("the time-out", 20L, pending(workflow).getActivityOptions().getStartToCloseTimeout().getSeconds());

    stage.api().resetActivity(
        ResetActivityRequest.newBuilder()
            .setNamespace(stage.namespace())
            .setExecution(workflow.getExecution())
            .setId(activity)
            .setIdentity(OPERATOR)
            .setKeepPaused(true)
            .build());
    Stage.expect("the attempt", 1, pending(workflow).getAttempt());

    payments.open = true;
    // Longer than it takes until the next attempt of one that is not paused.
    Thread.sleep(RETRY_AFTER.multipliedBy(2).toMillis());
    Stage.expect("the state", PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED, pending(workflow).getState());
    stage.api().unpauseActivity(
        UnpauseActivityRequest.newBuilder()
            .setNamespace(stage.namespace())
            .setExecution(workflow.getExecution())
            .setId(activity)
            .setIdentity(OPERATOR)
            .build());
    Stage.expect("the receipt", "receipt for gold", toGold.getResult());
    Stage.narrate("operator: the activity went on, from its first attempt");
    subscription.cancel();
    Stage.expect("the result", "gold", stage.result(workflow, String.class));
  }

  private static PendingActivityInfo pending(WorkflowStub workflow) {
    var pending = workflow.describe().getRawDescription().getPendingActivitiesList();
    Stage.expect("the number of activities", 1, pending.size());
    return pending.get(0);
  }

  private static void beginsAgain(Stage stage, WorkflowExecution closed) throws Exception {
    var history = stage.client.fetchHistory(closed.getWorkflowId(), closed.getRunId());
    long firstTask =
        history.getEvents().stream()
            .filter(event -> event.getEventType() == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
            .findFirst()
            .orElseThrow()
            .getEventId();
    var reset =
        stage.api().resetWorkflowExecution(
            ResetWorkflowExecutionRequest.newBuilder()
                .setNamespace(stage.namespace())
                .setWorkflowExecution(closed)
                .setReason("charged in vain")
                .setRequestId(UUID.randomUUID().toString())
                .setWorkflowTaskFinishEventId(firstTask)
                .build());
    WorkflowStub again = run(stage, closed.getWorkflowId(), reset.getRunId());
    stage.add("changed-again", again);
    Stage.expect("the result", "bronze", stage.result(again, String.class));
    Stage.expect(
        "the outcome of an update", "receipt for gold", again.getUpdateHandle("to-gold", String.class).getResult());
    Stage.narrate("operator: a run that had ended began again, and had its changes and its end");
  }

  private static WorkflowStub run(Stage stage, String workflowId, String runId) {
    var target = WorkflowTargetOptions.newBuilder().setWorkflowId(workflowId).setRunId(runId).build();
    return stage.client.newUntypedWorkflowStub(target);
  }

  private static void schedule(Stage stage) throws Exception {
    ScheduleClient schedules =
        ScheduleClient.newInstance(
            stage.client.getWorkflowServiceStubs(),
            ScheduleClientOptions.newBuilder().setNamespace(stage.namespace()).setIdentity(OPERATOR).build());
    // All its hours are past: it starts nothing by itself.
    var hours =
        ScheduleCalendarSpec.newBuilder()
            .setYear(List.of(new ScheduleRange(2026)))
            .setMonth(List.of(new ScheduleRange(1)))
            .setDayOfMonth(List.of(new ScheduleRange(1)))
            .setHour(List.of(new ScheduleRange(0, INVOICES - 1)))
            .build();
    Schedule schedule =
        Schedule.newBuilder()
            .setAction(
                ScheduleActionStartWorkflow.newBuilder()
                    .setWorkflowType(Invoice.class)
                    .setArguments("Ada")
                    .setOptions(stage.workflowOptions("invoice"))
                    .build())
            .setSpec(ScheduleSpec.newBuilder().setCalendars(List.of(hours)).build())
            .setPolicy(
                SchedulePolicy.newBuilder()
                    .setOverlap(ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL)
                    .build())
            .setState(ScheduleState.newBuilder().setPaused(true).setNote("not yet").build())
            .build();
    String id = stage.workflowId("schedule");
    var options = ScheduleOptions.newBuilder().setMemo(Map.of("owner", "Ada")).build();
    ScheduleHandle handle = schedules.createSchedule(id, schedule, options);
    try {
      schedules.createSchedule(id, schedule, options);
      throw new Stage.Unexpected("a schedule was created twice");
    } catch (ScheduleAlreadyRunningException there) {
      Stage.narrate("operator: a schedule is created once");
    }
    var described = handle.describe();
    Stage.expect("the note", "not yet", described.getSchedule().getState().getNote());
    Stage.expect("whether it is paused", true, described.getSchedule().getState().isPaused());
    Stage.expect("the memo", "Ada", described.getMemo("owner", String.class));
    Stage.expect("the next times", List.of(), described.getInfo().getNextActionTimes());

    pastInvoices(stage, handle);

    handle.trigger(ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL);
    untilActions(handle, INVOICES + 1);
    Stage.narrate("operator: an invoice was made on request");

    handle.unpause("a new year");
    expectState(handle, false, "a new year");
    handle.pause("that will do");
    expectState(handle, true, "that will do");

    handle.update(
        input -> {
          var monthly = new ScheduleIntervalSpec(Duration.ofDays(30));
          var spec = ScheduleSpec.newBuilder().setIntervals(List.of(monthly)).build();
          return new ScheduleUpdate(Schedule.newBuilder(input.getDescription().getSchedule()).setSpec(spec).build());
        });
    Stage.until("the new next times", () -> !handle.describe().getInfo().getNextActionTimes().isEmpty());
    List<Instant> next = handle.describe().getInfo().getNextActionTimes();
    Stage.expect("the time between two", Duration.ofDays(30), Duration.between(next.get(0), next.get(1)));
    expectState(handle, true, "that will do");

    String query = "TemporalSchedulePaused = true AND ScheduleId = '%s'".formatted(id);
    Stage.until(
        "the schedule to be listed",
        () -> schedules.listSchedules(query, 10).map(each -> each.getScheduleId()).toList().equals(List.of(id)));

    handle.delete();
    try {
      handle.describe();
      throw new Stage.Unexpected("a deleted schedule was described");
    } catch (ScheduleException gone) {
      Stage.expect("the code", Status.Code.NOT_FOUND, ((StatusRuntimeException) gone.getCause()).getStatus().getCode());
    }
    Stage.narrate("operator: a deleted schedule is none");
  }

  private static void pastInvoices(Stage stage, ScheduleHandle handle) throws Exception {
    Instant last = NEW_YEAR.plus(Duration.ofHours(INVOICES - 1));
    var policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL;
    handle.backfill(List.of(new ScheduleBackfill(NEW_YEAR, last, policy)));
    untilActions(handle, INVOICES);
    List<Instant> times =
        handle.describe().getInfo().getRecentActions().stream().map(action -> action.getScheduledAt()).toList();
    for (int i = 0; i < INVOICES; i++) {
      Instant time = NEW_YEAR.plus(Duration.ofHours(i));
      Stage.expect("the time of an invoice", time, times.get(i));
      WorkflowStub invoice = stage.client.newUntypedWorkflowStub(stage.workflowId("invoice-" + time));
      Stage.expect("the invoice", i + 1, stage.result(invoice, Integer.class));
      var execution = invoice.describe().getExecution();
      stage.add("invoice-" + i, run(stage, execution.getWorkflowId(), execution.getRunId()));
    }
    Stage.narrate("operator: the invoices of past hours were made one after the other");
  }

  private static void untilActions(ScheduleHandle handle, long number) throws Exception {
    Stage.until(
        number + " invoices to be made",
        () -> {
          var info = handle.describe().getInfo();
          return info.getNumActions() == number && info.getRunningActions().isEmpty();
        });
  }

  private static void expectState(ScheduleHandle handle, boolean isPaused, String note) {
    ScheduleState state = handle.describe().getSchedule().getState();
    Stage.expect("whether it is paused", isPaused, state.isPaused());
    Stage.expect("the note", note, state.getNote());
  }

  private static void batch(Stage stage) throws Exception {
    List<WorkflowStub> workflows = new ArrayList<>();
    for (int i = 0; i < IN_BATCH; i++) {
      workflows.add(WorkflowStub.fromTyped(start(stage, "batch-" + i)));
    }
    stage.add("batch", workflows.get(0));
    String query = "WorkflowId STARTS_WITH '%s'".formatted(stage.workflowId("batch-"));
    Stage.until("the subscriptions to be listed", () -> stage.client.countWorkflows(query).getCount() == IN_BATCH);

    var request =
        StartBatchOperationRequest.newBuilder()
            .setNamespace(stage.namespace())
            .setJobId(stage.workflowId("job"))
            .setReason("the shop closes")
            .setVisibilityQuery(query)
            .setSignalOperation(BatchOperationSignal.newBuilder().setSignal("cancel").setIdentity(OPERATOR))
            .build();
    Stage.expect("the code", Status.Code.OK, startBatch(stage, request));
    Stage.until(
        "the batch to end",
        () -> describe(stage, request.getJobId()).getState() != BatchOperationState.BATCH_OPERATION_STATE_RUNNING);
    DescribeBatchOperationResponse described = describe(stage, request.getJobId());
    Stage.expect("the state", BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, described.getState());
    var signals = BatchOperationType.BATCH_OPERATION_TYPE_SIGNAL_WORKFLOW;
    Stage.expect("the operation", signals, described.getOperationType());
    Stage.expect("the reason", "the shop closes", described.getReason());
    Stage.expect("the number of workflows", (long) IN_BATCH, described.getTotalOperationCount());
    Stage.expect("the number of those that are signalled", (long) IN_BATCH, described.getCompleteOperationCount());
    Stage.expect("the number of those that are not", 0L, described.getFailureOperationCount());
    for (WorkflowStub workflow : workflows) {
      Stage.expect("the result", "basic", stage.result(workflow, String.class));
    }
    Stage.narrate("operator: a batch cancelled " + IN_BATCH + " subscriptions");

    Stage.until(
        "the batch to be listed",
        () -> listed(stage, request.getJobId(), BatchOperationState.BATCH_OPERATION_STATE_COMPLETED));
    Stage.expect("the code of a second of one id", Status.Code.ALREADY_EXISTS, startBatch(stage, request));
  }

  /** Returns the answer's code. Of a namespace, one batch runs at a time: another program's may have to end first. */
  private static Status.Code startBatch(Stage stage, StartBatchOperationRequest request) throws Exception {
    var answer = new AtomicReference<>(Status.Code.OK);
    Stage.until(
        "no other batch to run",
        () -> {
          try {
            stage.api().startBatchOperation(request);
          } catch (StatusRuntimeException refused) {
            answer.set(refused.getStatus().getCode());
            return answer.get() != Status.Code.RESOURCE_EXHAUSTED;
          }
          answer.set(Status.Code.OK);
          return true;
        });
    return answer.get();
  }

  private static DescribeBatchOperationResponse describe(Stage stage, String jobId) {
    var request = DescribeBatchOperationRequest.newBuilder().setNamespace(stage.namespace()).setJobId(jobId).build();
    return stage.api().describeBatchOperation(request);
  }

  private static boolean listed(Stage stage, String jobId, BatchOperationState state) {
    var request = ListBatchOperationsRequest.newBuilder().setNamespace(stage.namespace()).build();
    return stage.api().listBatchOperations(request).getOperationInfoList().stream()
        .anyMatch(job -> job.getJobId().equals(jobId) && job.getState() == state);
  }

  private Subscriptions() {}
}
