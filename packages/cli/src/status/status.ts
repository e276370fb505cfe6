import type { AppStatusReply } from '@roost/api'
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
 machines: [{id, state, group, region, host, image, checks: [{name, status, output}], private_ip, updated_at, reason}]}`,
  })
  command.action((options: AppOptions & { json?: boolean; watch?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      if (options.watch && options.json) throw usage('--watch is for people, --json for scripts')
      if (options.watch)
        return watchUntilInterrupted(context, async () =>
          statusText(await client.appStatus({ params }), context),
        )
      const status = await client.appStatus({ params })
      if (options.json) return printJson(context, status)
      context.stdout.write(statusText(status, context))
    }),
  )
}

export function statusText(status: AppStatusReply, context: CliContext): string {
  const style = styleOf(context, context.stdout)
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
    ago(machine.updated_at),
  ])
  const headings = [
    ...['MACHINE', 'STATE', ...(several ? ['GROUP'] : [])],
    ...['REGION', 'HOST', 'CHECKS', 'PRIVATE IP', 'UPDATED'],
  ]
  const reasons = status.machines
    .filter(({ reason }) => reason !== null)
    .map(({ id, reason }) => `${id}: ${reason}`)
  return [head, '', tableText(headings, rows, context.stdout), ...reasons, ''].join('\n')
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
