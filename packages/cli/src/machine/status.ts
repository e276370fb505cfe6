import type { MachineReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { stateText } from '../status/status.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'
import { checkedMachineId } from './machine-id.ts'
import { machineRow } from './machine-row.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('status')
      .description('One machine, with its checks and events')
      .argument('<id>', '14 hex characters, as roost machine list shows them'),
  )
  explained(command, {
    examples: ['roost machine status 3d8d9014b51089 -a shop'],
    json: 'as in roost machine list, with config and events: [{type, status, source, timestamp (ms), …}]',
  })
  command.action((id: string, options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      const machine = await client.getMachine({ params: { ...params, id: checkedMachineId(id) } })
      const row = machineRow(machine)
      if (options.json)
        return printJson(context, { ...row, config: machine.config, events: machine.events })
      const style = styleOf(context, context.stdout)
      const facts: [string, string][] = [
        ['Machine', `${style.bold(row.id)} ${row.name}`],
        ['State', `${stateText(row.state, style)}${machine.cordoned ? ' (cordoned)' : ''}`],
        ...reasonOf(machine),
        ['Region', `${row.region}, host ${row.host} (${machine.host_status})`],
        ['Image', row.image],
        ['Size', row.size],
        ['Private', row.private_ip],
        ['Updated', ago(row.updated_at)],
      ]
      context.stdout.write(facts.map(([name, value]) => `${name.padEnd(9)}${value}\n`).join(''))
      const checks = row.checks.map(({ name, status, output }) => [name, status, output])
      if (checks.length > 0)
        context.stdout.write(
          `\n${tableText(['CHECK', 'STATUS', 'OUTPUT'], checks, context.stdout)}\n`,
        )
      const events = machine.events
        .slice(0, 10)
        .map((event) => [
          ago(new Date(event.timestamp).toISOString()),
          event.type,
          event.status,
          event.source,
          typeof event['message'] === 'string' ? event['message'] : '',
        ])
      if (events.length > 0)
        context.stdout.write(
          `\n${tableText(['WHEN', 'EVENT', 'STATUS', 'BY', 'WHAT'], events, context.stdout)}\n`,
        )
    }),
  )
}

/** Why it is in that state, where its host says so. */
function reasonOf(machine: MachineReply): [string, string][] {
  const { reason } = machine
  return typeof reason === 'string' && reason !== '' ? [['Why', reason]] : []
}
