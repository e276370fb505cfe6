import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained } from '../command-options.ts'
import { withApp } from '../session/app-session.ts'
import { show } from '../ssh/run-program.ts'
import { type RemoteOptions, remoteOptions, remoteProgram, withProgram } from './remote-files.ts'

export const lsCommand = {
  register(parent: Command, context: CliContext): void {
    const command = remoteOptions(
      parent
        .command('ls')
        .description('What is in a folder of a machine')
        .argument('[path]', 'the folder or file', '.'),
    )
    explained(command, {
      examples: ['roost sftp ls /app', 'roost sftp ls /data --machine 3d8d9014b51089'],
    })
    print(command, context, (path) => ['ls', '-la', '--', path])
  },
}

export const findCommand = {
  register(parent: Command, context: CliContext): void {
    const command = remoteOptions(
      parent
        .command('find')
        .description('All paths below a folder of a machine')
        .argument('[path]', 'where to begin', '.'),
    )
    explained(command, { examples: ['roost sftp find /app | grep log'] })
    // A path that begins with a dash would be taken for what to look for.
    print(command, context, (path) => ['find', path.startsWith('-') ? `./${path}` : path])
  },
}

function print(
  command: Command,
  context: CliContext,
  words: (path: string) => readonly string[],
): void {
  command.action((path: string, options: RemoteOptions) =>
    withApp(context, options, async (app) => {
      const program = await remoteProgram(context, app, options, words(path))
      await withProgram(context, program, async ({ stdin, stdout }) => {
        await stdin.end()
        await show(stdout, context.stdout)
      })
    }),
  )
}
