import type { ApiClient, AppStatusReply, ReleaseReply } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { type FlyToml, groupNames } from '../config/fly-toml.ts'
import { localFiles } from '../config/local-files.ts'
import { type MachineTemplate, machineConfigOf } from '../config/machine-config.ts'
import { Failure } from '../failure/failure.ts'
import type { Progress } from '../terminal/progress.ts'
import { span } from '../terminal/time.ts'
import { type RolloutOptions, rolloutBody } from './flags.ts'
import { type BuildFlags, buildImage } from './image.ts'
import { checkRegions, checkRoom } from './preflight.ts'
import { carryOut, GOES_ON, planText } from './release-progress.ts'

export interface Deployment {
  readonly app: string
  /** What is sent to the builder. */
  readonly folder: string
  readonly config: FlyToml
  /** What fly.toml has no word for. */
  readonly base?: Partial<MachineTemplate>
  /** Where fly.toml lies; default: `folder`. */
  readonly configFolder?: string | undefined
  /** The file as text, kept with the release. */
  readonly source?: string | undefined
  readonly image?: string | undefined
  readonly build: BuildFlags
  readonly regions?: readonly string[] | undefined
  readonly ha: boolean
  readonly rollout?: RolloutOptions | undefined
  readonly planOnly?: boolean | undefined
}

/** What `--json` prints; the times add up to less than `total`, which also has the waits between. */
export interface DeployResult {
  readonly app: string
  readonly version: number
  readonly status: ReleaseReply['status']
  readonly image: string
  readonly hostname: string
  readonly url: string
  readonly plan: ReleaseReply['plan']
  readonly times_ms: {
    readonly upload: number
    readonly build: number
    readonly push: number
    readonly release: number
    readonly total: number
  }
}

const WAIT_TIMEOUT_MS = 300_000
const WAIT_TIMEOUT_MS_MAX = 3_600_000

/** Image, plan, release, and the watch over it until it ends. Throws a Failure with the reason when it failed. */
export async function deployApp(
  context: CliContext,
  client: ApiClient,
  deployment: Deployment,
  progress: Progress,
): Promise<DeployResult> {
  const { app, config, rollout = {} } = deployment
  const params = { app }
  const start = performance.now()
  const signal = context.interrupted()
  const before = await client.appStatus({ params }, { signal })
  await refuseHopeless(client, deployment, before, signal)
  const localFile = localFiles(deployment.configFolder ?? deployment.folder)
  // What can't be read is said before anything is built.
  for (const group of groupNames(config)) machineConfigOf(config, { group, localFile })
  const prebuilt = deployment.image ?? config.build?.image
  const built =
    prebuilt === undefined
      ? await buildImage(
          context,
          client,
          app,
          deployment.folder,
          config,
          deployment.build,
          progress,
        )
      : { image: prebuilt, uploadMs: 0, buildMs: 0, pushMs: 0 }

  const regions = deployment.regions ?? (await firstRegions(client, config, before.release))
  const primaryRegion = config.primary_region ?? regions?.[0]
  const waitTimeoutMs = Math.min(
    WAIT_TIMEOUT_MS_MAX,
    Math.max(1000, rollout.waitTimeout ?? config.deploy?.wait_timeout ?? WAIT_TIMEOUT_MS),
  )
  const [, ...others] = groupNames(config)
  const configOf = (group?: string) => ({
    image: built.image,
    ...machineConfigOf(config, {
      primaryRegion,
      base: deployment.base ?? {},
      localFile,
      ...(group === undefined ? {} : { group }),
    }),
  })
  const body = {
    config: configOf(),
    ...(others.length === 0
      ? {}
      : { groups: Object.fromEntries(others.map((group) => [group, configOf(group)])) }),
    ...(primaryRegion === undefined ? {} : { primary_region: primaryRegion }),
    ...(regions === undefined ? {} : { regions: [...regions] }),
    ha: deployment.ha,
    wait_timeout: waitTimeoutMs / 1000,
    ...rolloutBody(rollout, config.deploy),
    ...(deployment.source === undefined ? {} : { source: deployment.source }),
  }
  if (signal.aborted) throw new Failure('cancelled; nothing was released', { exitCode: 130 })
  const planned = await client.createRelease(
    { params, body: { ...body, plan_only: true } },
    { signal },
  )
  progress.line(planText(planned, `Plan of release v${planned.version} of ${app}`))
  const times = (releaseMs: number) => ({
    upload: Math.round(built.uploadMs),
    build: Math.round(built.buildMs),
    push: Math.round(built.pushMs),
    release: Math.round(releaseMs),
    total: Math.round(performance.now() - start),
  })
  const result = (release: ReleaseReply, releaseMs: number): DeployResult => ({
    app,
    version: release.version,
    status: release.status,
    image: release.image,
    hostname: before.hostname,
    url: `http://${before.hostname}`,
    plan: release.plan.length > 0 ? release.plan : planned.plan,
    times_ms: times(releaseMs),
  })
  if (deployment.planOnly) return result(planned, 0)

  const releaseStart = performance.now()
  const created = await client.createRelease({ params, body }, { signal }).catch((error) => {
    if (!signal.aborted) throw error
    throw new Failure('cancelled while the release was asked for: it may have begun', {
      fix: [`roost releases -a ${app}`, `roost status -a ${app}`],
      exitCode: 130,
      code: GOES_ON,
    })
  })
  const ended = await carryOut(client, created, progress, {
    signal,
    waitTimeoutMs,
    detach: rollout.detach,
  })
  const done = result(ended, performance.now() - releaseStart)
  if (rollout.detach) return done
  progress.line(doneText(done, prebuilt !== undefined, progress))
  return done
}

/** What can't work whatever is built, said before anything is sent. */
async function refuseHopeless(
  client: ApiClient,
  { regions, config }: Deployment,
  { machines }: AppStatusReply,
  signal: AbortSignal,
): Promise<void> {
  const primary = config.primary_region
  const isFirst = machines.length === 0
  const wanted = regions ?? (isFirst && primary !== undefined ? [primary] : [])
  if (wanted.length === 0) return
  const all = await client.listRegions({}, { signal })
  checkRegions(wanted, all, regions === undefined ? 'primary_region' : 'flag')
  // Machines that are there give their room to those that replace them.
  if (isFirst) checkRoom(wanted, all, config)
}

/** A first release needs to be told where; after that machines stay where they are. */
async function firstRegions(
  client: ApiClient,
  config: FlyToml,
  release: ReleaseReply | null,
): Promise<readonly string[] | undefined> {
  if (release !== null || config.primary_region !== undefined) return undefined
  const [first] = await client.listRegions()
  if (first === undefined)
    throw new Failure('there is no host that could run it', {
      fix: ['roost hosts', 'roost up --help'],
    })
  return [first.code]
}

function doneText(result: DeployResult, prebuilt: boolean, { style }: Progress): string {
  const { upload, build, push, release, total } = result.times_ms
  const parts = prebuilt ? '' : `upload ${span(upload)}, build ${span(build)}, push ${span(push)}, `
  return `${style.bold(`Release v${result.version} of ${result.app} is complete: ${result.url}`)}
Times: ${parts}release ${span(release)}; ${span(total)} in all`
}
