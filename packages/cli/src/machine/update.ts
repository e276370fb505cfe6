import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { shellWords } from '../config/reader.ts'
import { usage } from '../failure/failure.ts'
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
  readonly image?: string
  readonly command?: string
  readonly skipStart?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = machineOptions(
    appOption(
      parent
        .command('update')
        .description(
          'Change the configuration of one machine: it stops and starts anew. The next release brings it back to that of the app',
        )
        .argument('<id>', 'machine'),
    ),
  )
    .option('-i, --image <reference>', 'another image')
    .option('-C, --command <command>', 'another command')
    .option('--skip-start', 'leave it stopped')
  explained(command, {
    examples: [
      'roost machine update 3d8d9014b51089 -a shop --vm-memory 1gb',
      'roost machine update 3d8d9014b51089 -e LEVEL=debug -C "node server.js"',
    ],
    json: 'as one entry of roost machine list --json',
  })
  command.action((said: string, options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const at = { ...params, id: checkedMachineId(said) }
      const words = options.command === undefined ? [] : shellWords(options.command)
      if (words === null) throw usage(`--command has a quote that does not end`)
      const changes = {
        ...configChanges(options, words, shellWords),
        ...(options.image === undefined ? {} : { image: options.image }),
      }
      if (Object.keys(changes).length === 0)
        throw usage('nothing was said that would change', 'roost machine update --help')
      const machine = await client.getMachine({ params: at })
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const config = changedConfig(machine.config, changes)
      progress.update(at.id, `${at.id} stops, and starts anew`)
      const updated = await client.updateMachine({
        params: at,
        body: { config, skip_launch: options.skipStart === true },
      })
      if (options.skipStart !== true) await untilState(client, at, 'started', updated.instance_id)
      const now = await client.getMachine({ params: at })
      progress.finish(at.id, 'done', `${at.id} is ${now.state} with what was changed`)
      progress.stop()
      if (options.json) printJson(context, machineRow(now))
    }),
  )
}
