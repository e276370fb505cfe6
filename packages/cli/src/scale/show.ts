import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { machineRow } from '../machine/machine-row.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { tableText } from '../terminal/table.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('show').description('How many machines of which size run in which region'),
  )
  explained(command, {
    examples: ['roost scale show -a shop'],
    json: '[{group, region, size, count}]',
  })
  command.action((options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      const machines = (await client.listMachines({ params })).filter(
        ({ state }) => state !== 'destroyed' && state !== 'destroying',
      )
      const groups = new Map<
        string,
        { group: string; region: string; size: string; count: number }
      >()
      for (const { group, region, size } of machines.map(machineRow)) {
        const key = `${group} ${region} ${size}`
        const row = groups.get(key) ?? { group, region, size, count: 0 }
        groups.set(key, { ...row, count: row.count + 1 })
      }
      const rows = [...groups.values()].sort(
        (a, b) => a.group.localeCompare(b.group) || a.region.localeCompare(b.region),
      )
      if (options.json) return printJson(context, rows)
      const lines = rows.map(({ group, region, size, count }) => [
        group,
        region,
        size,
        String(count),
      ])
      context.stdout.write(
        `${tableText(['GROUP', 'REGION', 'SIZE', 'MACHINES'], lines, context.stdout)}\n`,
      )
    }),
  )
}
