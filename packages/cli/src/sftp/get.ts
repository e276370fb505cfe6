import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join, posix, resolve } from 'node:path'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { sizeText } from '../terminal/size.ts'
import { type RemoteOptions, remoteOptions, remoteProgram, withProgram } from './remote-files.ts'
import { makeWhole, refuseExisting, type Unpacked, unpackFiles } from './unpack-files.ts'

interface Options extends RemoteOptions {
  readonly recursive?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = remoteOptions(
    parent
      .command('get')
      .description('Copy a file or folder of a machine here; nothing here is overwritten')
      .argument('<remote>', 'its path in the machine')
      .argument('[local]', 'its path here; else its name in this folder'),
  ).option('-r, --recursive', 'a folder with all that is in it')
  explained(command, {
    examples: ['roost sftp get /app/log/production.log', 'roost sftp get -r /data backup'],
    json: '{path, files, bytes, left_away}',
  })
  command.action((remote: string, local: string | undefined, options: Options) =>
    withApp(context, options, async (session) => {
      const name = posix.basename(posix.resolve('/', remote))
      if (name === '') throw usage('the whole machine is too much: name a folder of it')
      const target = targetOf(context.cwd, local, name)
      refuseExisting(target)
      const progress = progressOn(context, context.stderr)
      const words = tarWords(remote, options.recursive === true)
      const program = await remoteProgram(context, session, options, words)
      const folders = options.recursive === true
      const state: { unpacked: Unpacked | null } = { unpacked: null }
      try {
        if (folders) mkdirSync(dirname(target), { recursive: true })
        await makeWhole(target, (draft) =>
          withProgram(context, program, async ({ stdin, stdout }) => {
            await stdin.end()
            state.unpacked = await unpackFiles(stdout.bytes, draft, {
              folders,
              heard: (bytes, of) =>
                progress.passing(
                  'get',
                  `${name}: ${sizeText(bytes)}${of === null ? '' : ` of ${sizeText(of)}`}`,
                ),
            })
          }),
        )
      } finally {
        progress.stop()
      }
      const { files, bytes, leftAway } = state.unpacked ?? { files: 0, bytes: 0, leftAway: 0 }
      if (options.json)
        return printJson(context, { path: target, files, bytes, left_away: leftAway })
      const left = leftAway === 0 ? '' : `; ${leftAway} links or devices were left away`
      context.stdout.write(
        `${target}: ${files} ${files === 1 ? 'file' : 'files'}, ${sizeText(bytes)}${left}\n`,
      )
    }),
  )
}

/** Of a single file a link is followed, in the machine. */
function tarWords(remote: string, folders: boolean): string[] {
  const folder = posix.dirname(remote)
  const name = posix.basename(remote)
  const flags = folders ? '-cf' : '-chf'
  // In a folder that is named by its last part alone, such as `.` or `..`, that part says nothing.
  if (name === '.' || name === '..' || remote.endsWith('/.'))
    return ['tar', flags, '-', '-C', remote, '.']
  return ['tar', flags, '-', '-C', folder, name.startsWith('-') ? `./${name}` : name]
}

function targetOf(folder: string, local: string | undefined, name: string): string {
  const path = resolve(folder, local ?? name)
  return local !== undefined && existsSync(path) && statSync(path).isDirectory()
    ? join(path, name)
    : path
}
