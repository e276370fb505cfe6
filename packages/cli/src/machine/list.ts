import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { checksText, stateText } from '../status/status.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'
import { machineRow } from './machine-row.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(parent.command('list').description('Machines of an app')).option(
    '--region <code>',
    'only those of a region',
  )
  explained(command, {
    examples: ['roost machine list -a shop', 'roost machine list --region ams --json'],
    json: '[{id, name, state, group, region, host, image, size, checks: [{name, status, output}], private_ip, version, created_at, updated_at}]',
  })
  command.action((options: AppOptions & { json?: boolean; region?: string }) =>
    withApp(context, options, async ({ client, params }) => {
      const query = options.region === undefined ? {} : { region: options.region }
      const machines = (await client.listMachines({ params, query })).filter(
        ({ state }) => state !== 'destroyed',
      )
      const rows = machines.map(machineRow)
      if (options.json) return printJson(context, rows)
      if (rows.length === 0) {
        context.stdout.write(`No machines${options.region ? ` in ${options.region}` : ''}.\n`)
        return
      }
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
      context.stdout.write(`${tableText(headings, lines, context.stdout)}\n`)
    }),
  )
}
