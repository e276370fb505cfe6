import type { AppStatusReply, AppTrafficReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { type Style, styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'
import { watchUntilInterrupted } from '../terminal/watch.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('status').description('Release and machines of an app at a glance'),
  ).option('--watch', 'show it again every two seconds, until Ctrl-C')
  explained(command, {
    examples: [
      'roost status',
      'roost status --watch',
      "roost status -a shop --json | jq '.machines[].state'",
    ],
    json: `{name, hostname, release: {version, status, image, reason, created_at, …} | null,
 machines: [{id, state, group, region, host, image, checks: [{name, status, output}], private_ip, updated_at, reason}],
 traffic: {minutes, total: {requests, per_second, failed, p50_ms, p99_ms, bytes_in, bytes_out, responses: {<status>: <count>},
   concurrency}, machines: [{id, …}], silent: [<host>]} | null}`,
  })
  command.action((options: AppOptions & { json?: boolean; watch?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      if (options.watch && options.json) throw usage('--watch is for people, --json for scripts')
      // What is served is nice to know: a server or an edge that can't tell keeps nobody from the rest.
      const look = () =>
        Promise.all([client.appStatus({ params }), client.appTraffic({ params }).catch(() => null)])
      if (options.watch)
        return watchUntilInterrupted(context, async () => statusText(...(await look()), context))
      const [status, traffic] = await look()
      if (options.json) return printJson(context, { ...status, traffic })
      context.stdout.write(statusText(status, traffic, context))
    }),
  )
}

export function statusText(
  status: AppStatusReply,
  traffic: AppTrafficReply | null,
  context: CliContext,
): string {
  const style = styleOf(context, context.stdout)
  const served = new Map(traffic?.machines.map((machine) => [machine.id, machine]))
  const { release } = status
  const facts: [string, string][] = [
    ['App', style.bold(status.name)],
    ['URL', `http://${status.hostname}`],
    [
      'Release',
      release === null
        ? 'none yet: roost deploy'
        : `v${release.version} ${release.status}, ${ago(release.created_at)}${release.reason === null ? '' : `: ${release.reason}`}`,
    ],
    ...(release === null ? [] : ([['Image', release.image]] as [string, string][])),
    ...(traffic === null ? [] : ([['Traffic', trafficText(traffic, style)]] as [string, string][])),
  ]
  const head = facts.map(([name, value]) => `${name.padEnd(9)}${value}`).join('\n')
  if (status.machines.length === 0) return `${head}\n\nNo machines.\n`
  const several = new Set(status.machines.map(({ group }) => group)).size > 1
  const rows = status.machines.map((machine) => [
    machine.id,
    stateText(machine.state, style),
    ...(several ? [machine.group] : []),
    machine.region,
    machine.host,
    checksText(machine.checks, style),
    machine.private_ip,
    ...(traffic === null ? [] : [perSecondText(served.get(machine.id)?.per_second ?? 0)]),
    ago(machine.updated_at),
  ])
  const headings = [
    ...['MACHINE', 'STATE', ...(several ? ['GROUP'] : [])],
    ...['REGION', 'HOST', 'CHECKS', 'PRIVATE IP'],
    ...(traffic === null ? ['UPDATED'] : ['REQ/S', 'UPDATED']),
  ]
  const reasons = status.machines
    .filter(({ reason }) => reason !== null)
    .map(({ id, reason }) => `${id}: ${reason}`)
  return [head, '', tableText(headings, rows, context.stdout), ...reasons, ''].join('\n')
}

function trafficText({ minutes, total, silent }: AppTrafficReply, style: Style): string {
  const gone =
    silent.length === 0
      ? ''
      : style.yellow(` (without what ${silent.join(', ')} answered, which can not be asked now)`)
  if (total.requests === 0) return `no requests in the last ${minutes} minutes${gone}`
  const times =
    total.p50_ms === null || total.p99_ms === null
      ? []
      : [`half within ${msText(total.p50_ms)}, 99 % within ${msText(total.p99_ms)}`]
  const failed = `${total.failed} failed`
  const parts = [
    `${perSecondText(total.per_second)} requests/s over ${minutes} minutes`,
    total.failed > 0 ? style.red(failed) : failed,
    ...times,
  ]
  return `${parts.join(', ')}${gone}`
}

function perSecondText(perSecond: number): string {
  return perSecond === 0
    ? '0'
    : perSecond < 0.01
      ? '<0.01'
      : `${Number(perSecond.toPrecision(perSecond < 100 ? 2 : 3))}`
}

function msText(ms: number): string {
  return ms < 10
    ? `${ms.toFixed(1)} ms`
    : ms < 1000
      ? `${Math.round(ms)} ms`
      : `${(ms / 1000).toFixed(1)} s`
}

export function stateText(state: string, style: Style): string {
  if (state === 'started') return style.green(state)
  return state === 'failed' ? style.red(state) : state
}

export function checksText(checks: readonly { readonly status: string }[], style: Style): string {
  if (checks.length === 0) return '-'
  const passing = checks.filter(({ status }) => status === 'passing').length
  const text = `${passing}/${checks.length} passing`
  return passing === checks.length ? style.green(text) : style.yellow(text)
}
