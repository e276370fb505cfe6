import { type ApiClient, ApiError, type ReleaseEvent, type ReleaseReply } from '@roost/api'
import { type Clock, systemClock } from '@roost/base'
import { Failure } from '../failure/failure.ts'
import type { Progress } from '../terminal/progress.ts'

/** Of a Failure after which the release is still under way, or may be. */
export const GOES_ON = 'release_goes_on'

/** Of a Failure whose release has ended. */
export const RELEASE_FAILED = 'release_failed'

/** A stop may take 300 s and comes after the wait for the new machines; a release of which nothing new is heard for longer is stuck. */
const SLACK_MS = 15 * 60_000
const RETRY_MS = 1000

export function followCommand(release: { readonly app: string; readonly version: number }): string {
  return `roost releases ${release.version} --follow -a ${release.app}`
}

/** Follows a release that has been asked for to its end, and throws when it fails; with `detach` only says how to. */
export async function carryOut(
  client: ApiClient,
  release: ReleaseReply,
  progress: Progress,
  options: {
    readonly signal: AbortSignal
    readonly waitTimeoutMs: number
    readonly detach?: boolean | undefined
  },
): Promise<ReleaseReply> {
  const { app, version } = release
  if (options.detach) {
    const how = release.status === 'pending' ? 'waits for another release of' : 'of'
    progress.line(`Release v${version} ${how} ${app} is carried out by the server.
Follow it: ${followCommand(release)}`)
    return release
  }
  const ended = await watchRelease(client, { app, version }, progress, options)
  if (ended.status === 'failed') throw releaseFailure(ended)
  return ended
}

export function releaseFailure(release: ReleaseReply): Failure {
  const { app, version, reason, returned, before } = release
  const serves = returned !== false && before !== null ? `\nRelease v${before} serves on.` : ''
  return new Failure(`release v${version} of ${app} failed`, {
    why: `${reason ?? 'the server gave no reason'}${serves}`,
    fix: [`roost logs -a ${app}`, `roost status -a ${app}`],
    code: RELEASE_FAILED,
  })
}

/**
 * Shows a release until it ends, and returns how. The release runs in the server: a connection that breaks is only
 * made again, and Ctrl-C ends the watching, not the release.
 */
export async function watchRelease(
  client: ApiClient,
  params: { readonly app: string; readonly version: number },
  progress: Progress,
  options: {
    readonly signal: AbortSignal
    readonly waitTimeoutMs: number
    readonly clock?: Clock
    readonly onEvent?: (event: ReleaseEvent) => void
  },
): Promise<ReleaseReply> {
  const clock = options.clock ?? systemClock
  let giveUpAt = clock.now() + options.waitTimeoutMs + SLACK_MS
  const seen = new Set<string>()
  const texts = new Map<string, string>()
  const heard = () => {
    if (texts.delete('server')) progress.finish('server', 'done', 'the server answers again')
  }
  const show = (event: ReleaseEvent) => {
    heard()
    const id = `${event.at} ${event.machine} ${event.message}`
    if (seen.has(id)) return
    seen.add(id)
    giveUpAt = clock.now() + options.waitTimeoutMs + SLACK_MS
    options.onEvent?.(event)
    const key = event.machine ?? 'release'
    texts.set(key, event.message)
    progress.update(key, event.message)
  }
  while (clock.now() < giveUpAt) {
    try {
      for await (const event of client.followRelease({ params }, { signal: options.signal }))
        show(event)
      const release = await client.getRelease({ params }, { signal: options.signal })
      heard()
      if (release.status === 'complete' || release.status === 'failed') {
        const how = release.status === 'complete' ? 'done' : 'failed'
        for (const [key, text] of texts) progress.finish(key, how, text)
        progress.stop()
        return release
      }
    } catch (error) {
      if (options.signal.aborted) {
        progress.stop()
        throw stillGoingOn(params)
      }
      if (!mayPass(error)) {
        progress.stop()
        throw error
      }
      const away = 'the server does not answer; the release goes on when it is back'
      texts.set('server', away)
      progress.update('server', away)
    }
    await clock.sleep(RETRY_MS, options.signal)
  }
  progress.stop()
  throw new Failure(`nothing new was heard of release v${params.version} for too long`, {
    code: GOES_ON,
    fix: [`roost releases -a ${params.app}`, `roost status -a ${params.app}`],
  })
}

function stillGoingOn({
  app,
  version,
}: {
  readonly app: string
  readonly version: number
}): Failure {
  return new Failure(`no longer watching; release v${version} goes on in the server`, {
    fix: [followCommand({ app, version }), `roost status -a ${app}`],
    exitCode: 130,
    code: GOES_ON,
  })
}

/** The server is away or in trouble: what was asked for is still stored. */
function mayPass(error: unknown): boolean {
  if (error instanceof ApiError) return error.status >= 500
  return error instanceof Error && error.name === 'ServerUnreached'
}

/** What will be done, a line for each machine; counted where there are many. */
export function planText(release: Pick<ReleaseReply, 'plan' | 'app'>, what: string): string {
  const { plan } = release
  // Of an app with one group nobody needs to be told which.
  const several = new Set(plan.map(({ group }) => group)).size > 1
  if (plan.length === 0) return `${what}: no machine changes`
  const lines =
    plan.length <= 12
      ? plan.map(({ kind, region: code, group, host, machine, replaces }) => {
          const region = several ? `${code} ${group}` : code
          const on = host === null ? '' : ` on ${host}`
          if (kind === 'create') return `  + ${region}  new machine${on}`
          if (kind === 'destroy') return `  - ${region}  machine ${machine ?? replaces} goes`
          if (kind === 'update')
            return `  ! ${region}  machine ${machine}${on} stops and starts anew: requests wait meanwhile`
          return `  ~ ${region}  new machine${on}, then ${replaces} drains and goes`
        })
      : counted(plan, several)
  return `${what}:\n${lines.join('\n')}`
}

function counted(plan: ReleaseReply['plan'], several: boolean): string[] {
  const marks = { create: '+', replace: '~', update: '!', destroy: '-' } as const
  const words = {
    create: 'new',
    replace: 'replaced',
    update: 'replaced in place: requests wait meanwhile',
    destroy: 'removed',
  } as const
  const counts = new Map<string, number>()
  for (const { kind, region, group } of plan) {
    const line = `  ${marks[kind]} ${region}${several ? ` ${group}` : ''}  # ${words[kind]}`
    counts.set(line, (counts.get(line) ?? 0) + 1)
  }
  return [...counts].map(([line, count]) => line.replace('#', `${count} machines`)).sort()
}
