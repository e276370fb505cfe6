import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { checksText, stateText } from '../status/status.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'
import { watchUntilInterrupted } from '../terminal/watch.ts'
import { machineRow } from './machine-row.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(parent.command('list').description('Machines of an app'))
    .option('--region <code>', 'only those of a region')
    .option('--watch', 'show it again every two seconds, until Ctrl-C')
  explained(command, {
    examples: [
      'roost machine list -a shop',
      'roost machine list --region ams --json',
      'roost machine list --watch',
    ],
    json: '[{id, name, state, group, region, host, image, size, checks: [{name, status, output}], private_ip, version, created_at, updated_at}]',
  })
  command.action((options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      if (options.watch && options.json) throw usage('--watch is for people, --json for scripts')
      const query = options.region === undefined ? {} : { region: options.region }
      const look = async () =>
        (await client.listMachines({ params, query }))
          .filter(({ state }) => state !== 'destroyed')
          .map(machineRow)
      if (options.watch)
        return watchUntilInterrupted(context, async () => listText(await look(), options, context))
      const rows = await look()
      if (options.json) printJson(context, rows)
      else context.stdout.write(listText(rows, options, context))
    }),
  )
}

interface Options extends AppOptions {
  readonly json?: boolean
  readonly region?: string
  readonly watch?: boolean
}

function listText(
  rows: readonly ReturnType<typeof machineRow>[],
  { region }: Options,
  context: CliContext,
): string {
  if (rows.length === 0) return `No machines${region ? ` in ${region}` : ''}.\n`
  const style = styleOf(context, context.stdout)
  const several = new Set(rows.map((row) => row.group)).size > 1
  const lines = rows.map((row) => [
    row.id,
    row.name,
    stateText(row.state, style),
    ...(several ? [row.group] : []),
    row.region,
    row.host,
    row.size,
    checksText(row.checks, style),
    ago(row.updated_at),
  ])
  const headings = [
    ...['ID', 'NAME', 'STATE', ...(several ? ['GROUP'] : [])],
    ...['REGION', 'HOST', 'SIZE', 'CHECKS', 'UPDATED'],
  ]
  return `${tableText(headings, lines, context.stdout)}\n`
}
