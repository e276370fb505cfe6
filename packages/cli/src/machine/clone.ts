import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { shellWords } from '../config/reader.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { untilState } from './change-machines.ts'
import { checkedMachineId } from './machine-id.ts'
import {
  changedConfig,
  configChanges,
  type MachineOptions,
  machineOptions,
} from './machine-options.ts'
import { machineRow } from './machine-row.ts'

interface Options extends AppOptions, MachineOptions {
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = machineOptions(
    appOption(
      parent
        .command('clone')
        .description(
          'Make another machine with the configuration of one; releases look after it too',
        )
        .argument('<id>', 'the machine that it shall be like'),
    ),
  )
    .option('-r, --region <code>', 'where; default: where the other one is')
    .option('-n, --name <name>', 'default: one is made up')
  explained(command, {
    examples: [
      'roost machine clone 3d8d9014b51089 -a shop --region iad',
      'roost machine clone 3d8d9014b51089 --vm-memory 1gb',
    ],
    json: 'as one entry of roost machine list --json',
  })
  command.action((id: string, options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const source = await client.getMachine({ params: { ...params, id: checkedMachineId(id) } })
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const body = {
        region: options.region ?? source.region,
        ...(options.name === undefined ? {} : { name: options.name }),
        config: changedConfig(source.config, configChanges(options, [], shellWords)),
      }
      const machine = await client.createMachine({ params, body })
      progress.update(machine.id, `${machine.id} is created in ${machine.region}, like ${id}`)
      await untilState(client, { ...params, id: machine.id }, 'started')
      progress.finish(machine.id, 'done', `${machine.id} is started in ${machine.region}`)
      progress.stop()
      if (options.json) {
        const now = await client.getMachine({ params: { ...params, id: machine.id } })
        printJson(context, machineRow(now))
      }
    }),
  )
}
