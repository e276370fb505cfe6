import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import type { CommandModule } from '../command-table.ts'
import { shellWords } from '../config/reader.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { untilState } from './change-machines.ts'
import { configChanges, type MachineOptions, machineOptions } from './machine-options.ts'
import { machineRow } from './machine-row.ts'

interface Options extends AppOptions, MachineOptions {
  readonly wait?: boolean
  readonly json?: boolean
}

export const runCommand: CommandModule = {
  register: (parent, context) =>
    registerAs(parent, context, {
      word: 'run',
      about: 'Make a machine of an image and start it; releases leave it alone',
      launch: true,
    }),
}

export const createCommand: CommandModule = {
  register: (parent, context) =>
    registerAs(parent, context, {
      word: 'create',
      about: 'Make a machine of an image without starting it; releases leave it alone',
      launch: false,
    }),
}

function registerAs(
  parent: Command,
  context: CliContext,
  how: { readonly word: string; readonly about: string; readonly launch: boolean },
): void {
  const command = machineOptions(
    appOption(
      parent
        .command(how.word)
        .description(how.about)
        .argument('<image>', 'reference, such as debian:bookworm-slim')
        .argument('[command...]', 'in place of that of the image; flags of its own after --'),
    ),
  )
    .option('-r, --region <code>', 'where; default: the primary region of the app')
    .option('-n, --name <name>', 'default: one is made up')
    .option('--no-wait', 'do not wait until it is there')
  explained(command, {
    examples: [
      `roost machine ${how.word} debian:bookworm-slim -a shop -- sleep 60`,
      `roost machine ${how.word} registry.internal/shop -r ams -e LEVEL=debug --vm-memory 512mb`,
    ],
    json: 'as one entry of roost machine list --json',
  })
  command.action((image: string, words: string[], options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const body = {
        ...(options.region === undefined ? {} : { region: options.region }),
        ...(options.name === undefined ? {} : { name: options.name }),
        config: { image, ...configChanges(options, words, shellWords) },
        skip_launch: !how.launch,
      }
      const machine = await client.createMachine({ params, body })
      progress.update(machine.id, `${machine.id} is created in ${machine.region}`)
      const at = { ...params, id: machine.id }
      // One that ends by itself may have ended before anybody looks.
      const lasts = how.launch && options.rm !== true && options.schedule === undefined
      if (lasts && options.wait !== false) await untilState(client, at, 'started')
      const now = await client.getMachine({ params: at })
      progress.finish(machine.id, 'done', `${machine.id} is ${now.state} in ${now.region}`)
      progress.stop()
      if (options.json) printJson(context, machineRow(now))
    }),
  )
}
