import { createReadStream } from 'node:fs'
import { lstat, readdir, stat } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { type Pack, pack } from 'tar-stream'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { Failure, usage } from '../failure/failure.ts'
import { withApp } from '../session/app-session.ts'
import { show } from '../ssh/run-program.ts'
import { progressOn } from '../terminal/progress.ts'
import { sizeText } from '../terminal/size.ts'
import { type RemoteOptions, remoteOptions, remoteProgram, withProgram } from './remote-files.ts'

interface Options extends RemoteOptions {
  readonly recursive?: boolean
  readonly force?: boolean
  readonly mode?: number
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = remoteOptions(
    parent
      .command('put')
      .description('Copy a file or folder into a machine; it is gone at its next start')
      .argument('<local>', 'its path here')
      .argument('[remote]', 'its path in the machine; else its name in the working directory'),
  )
    .option('-r, --recursive', 'a folder with all that is in it, links left away')
    .option('-m, --mode <mode>', 'of a file: 0644; else as it is here', modeOf)
    .option('--force', 'overwrite what is there')
  explained(command, {
    examples: ['roost sftp put fix.sql /tmp/fix.sql', 'roost sftp put -r public /app/public'],
    json: '{path, files, bytes, left_away}',
  })
  command.action((local: string, said: string | undefined, options: Options) =>
    withApp(context, options, async (session) => {
      const source = resolve(context.cwd, local)
      const found = await stat(source).catch((cause: unknown) => {
        throw usage(`there is no ${local}: ${(cause as NodeJS.ErrnoException).code}`)
      })
      if (found.isDirectory() && !options.recursive)
        throw usage(`${local} is a folder`, 'add -r to put all of it')
      const remote = said ?? basename(source)
      const progress = progressOn(context, context.stderr)
      const script = [
        'sh',
        '-c',
        RECEIVE,
        'sh',
        remote,
        basename(source),
        options.force ? 'force' : '',
      ]
      const program = await remoteProgram(context, session, options, script)
      const count = { files: 0, bytes: 0, leftAway: 0 }
      try {
        await withProgram(context, program, async ({ stdin, stdout }) => {
          const printing = show(stdout, context.stderr)
          const tar = pack()
          const filling = fill(tar, source, { mode: options.mode, count })
          filling.catch((error: Error) => tar.destroy(error))
          for await (const chunk of tar) {
            await stdin.write(chunk as Uint8Array)
            progress.passing('put', `${basename(source)}: ${sizeText(count.bytes)}`)
          }
          await filling
          await stdin.end()
          await printing
        })
      } finally {
        progress.stop()
      }
      const { files, bytes, leftAway } = count
      if (options.json)
        return printJson(context, { path: remote, files, bytes, left_away: leftAway })
      const left = leftAway === 0 ? '' : `; ${leftAway} links or devices were left away`
      context.stdout.write(
        `${remote}: ${files} ${files === 1 ? 'file' : 'files'}, ${sizeText(bytes)}${left}\n`,
      )
    }),
  )
}

/** The name in the archive is `put`. It is unpacked beside its place and then moved there, so that nobody sees half of it. */
const RECEIVE = `
set -e
to=$1
if [ -d "$to" ]; then to=\${to%/}/$2; fi
if [ -z "$3" ] && { [ -e "$to" ] || [ -L "$to" ]; }; then echo "$to is there already in the machine; --force overwrites it" >&2; cat >/dev/null; exit 17; fi
folder=$(dirname -- "$to")
work=$(mktemp -d "$folder/.roost-put-XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xf - -C "$work"
if [ -d "$to" ]; then rm -rf "$to"; fi
mv -f "$work/put" "$to"
`

async function fill(
  tar: Pack,
  source: string,
  {
    mode,
    count,
  }: {
    readonly mode: number | undefined
    readonly count: { files: number; bytes: number; leftAway: number }
  },
): Promise<void> {
  const add = async (path: string, name: string, top: boolean): Promise<void> => {
    const found = top ? await stat(path) : await lstat(path)
    const about = { name, mtime: found.mtime, mode: (top ? mode : undefined) ?? found.mode & 0o777 }
    if (found.isDirectory()) {
      tar.entry({ ...about, type: 'directory' })
      for (const inner of (await readdir(path)).sort())
        await add(join(path, inner), posix.join(name, inner), false)
    } else if (found.isFile()) {
      count.files++
      if (found.size === 0) return void tar.entry({ ...about, size: 0 }, '')
      const entry = tar.entry({ ...about, size: found.size })
      const file = createReadStream(path, { end: found.size - 1 })
      file.on('data', (chunk) => {
        count.bytes += chunk.length
      })
      await pipeline(file, entry).catch((cause: unknown) => {
        throw new Failure(`${path} changed while it was read`, { cause })
      })
    } else count.leftAway++
  }
  await add(source, 'put', true)
  tar.finalize()
}

function modeOf(text: string): number {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8)
  throw new InvalidArgumentError('It is three octal digits, such as 0644.')
}
