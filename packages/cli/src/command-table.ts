import type { Command } from 'commander'
import type { CliContext } from './cli-context.ts'

/** A command's file: it adds itself to its parent, which is the program or the command of its noun. */
export interface CommandModule {
  register(parent: Command, context: CliContext): void
}

export interface CommandEntry {
  /** `['apps', 'list']`. */
  readonly words: readonly [string, string?]
  readonly summary: string
  /** Only the command that was called is loaded. */
  readonly load: () => Promise<CommandModule>
  /** Left out of `roost --help`: the noun's own line says enough. */
  readonly hidden?: true
}

export interface CommandGroup {
  readonly title: string
  readonly commands: readonly CommandEntry[]
}

/** What a noun is about, where it has verbs. */
export const NOUNS: Readonly<Record<string, string>> = {
  auth: 'Log in to a server, log out, see who you are',
  apps: 'List, create and destroy apps',
  machine: 'Make, look at, change, start, stop and destroy machines',
  ssh: 'A shell or a command in a machine, and who was there',
  sftp: 'Copy files into and out of machines',
  secrets: 'Set, list and remove secrets',
  certs: 'Names of your own, such as www.example.com, with certificates',
  scale: 'See and set how many machines of which size run where',
  tokens: 'Make, list and revoke tokens: who may do what for how long',
  context: 'Which of several servers is spoken to',
  mirror: 'Base images of Docker Hub in the own registry',
  registry: 'The image store: what lies there, and what nobody needs any more',
  playground: 'Simulated hosts in several regions on this machine',
}

export const COMMANDS: readonly CommandGroup[] = [
  {
    title: 'Run an app',
    commands: [
      {
        words: ['launch'],
        summary: 'Make an app of the folder and deploy it',
        load: () => import('./launch/launch.ts'),
      },
      {
        words: ['deploy'],
        summary: 'Build and release what changed',
        load: () => import('./deploy/deploy.ts'),
      },
      {
        words: ['status'],
        summary: 'Release and machines of an app',
        load: () => import('./status/status.ts'),
      },
      {
        words: ['open'],
        summary: 'Open an app in the browser',
        load: () => import('./open/open.ts'),
      },
      {
        words: ['logs'],
        summary: 'What the machines of an app print',
        load: () => import('./logs/logs.ts'),
      },
      {
        words: ['releases'],
        summary: 'What was released when',
        load: () => import('./releases/releases.ts'),
      },
      {
        words: ['rollback'],
        summary: 'Go back to an earlier release',
        load: () => import('./releases/rollback.ts'),
      },
    ],
  },
  {
    title: 'Change an app',
    commands: [
      {
        words: ['apps', 'list'],
        summary: 'Apps that you may see',
        load: () => import('./apps/list.ts'),
      },
      {
        words: ['apps', 'create'],
        summary: 'Reserve a name',
        load: () => import('./apps/create.ts'),
      },
      {
        words: ['apps', 'destroy'],
        summary: 'Destroy an app with its machines and secrets',
        load: () => import('./apps/destroy.ts'),
      },
      {
        words: ['apps', 'open'],
        summary: 'Open an app in the browser',
        load: () => import('./open/open.ts'),
      },
      {
        words: ['machine', 'list'],
        summary: 'Machines of an app',
        load: () => import('./machine/list.ts'),
      },
      {
        words: ['machine', 'status'],
        summary: 'One machine, with its checks and events',
        load: () => import('./machine/status.ts'),
      },
      {
        words: ['machine', 'run'],
        summary: 'Make a machine of an image, by hand',
        load: async () => (await import('./machine/run.ts')).runCommand,
      },
      {
        words: ['machine', 'create'],
        summary: 'The same, without starting it',
        load: async () => (await import('./machine/run.ts')).createCommand,
      },
      {
        words: ['machine', 'clone'],
        summary: 'Make another machine like one',
        load: () => import('./machine/clone.ts'),
      },
      {
        words: ['machine', 'update'],
        summary: 'Give a machine another image, command, size or variables',
        load: () => import('./machine/update.ts'),
      },
      {
        words: ['machine', 'wait'],
        summary: 'Wait until machines are in a state',
        load: () => import('./machine/wait.ts'),
      },
      {
        words: ['machine', 'kill'],
        summary: 'Send a signal to the programs of machines',
        load: () => import('./machine/kill.ts'),
      },
      {
        words: ['machine', 'metadata'],
        summary: 'See, set and remove metadata of machines',
        load: () => import('./machine/metadata.ts'),
      },
      {
        words: ['machine', 'start'],
        summary: 'Start machines',
        load: async () => (await import('./machine/start.ts')).startCommand,
      },
      {
        words: ['machine', 'suspend'],
        summary: 'Freeze machines with all that they have in memory',
        load: () => import('./machine/suspend.ts'),
      },
      {
        words: ['machine', 'resume'],
        summary: 'Let suspended machines go on where they were',
        load: async () => (await import('./machine/start.ts')).resumeCommand,
      },
      {
        words: ['machine', 'stop'],
        summary: 'Stop machines',
        load: () => import('./machine/stop.ts'),
      },
      {
        words: ['machine', 'restart'],
        summary: 'Stop machines and start them again',
        load: () => import('./machine/restart.ts'),
      },
      {
        words: ['machine', 'cordon'],
        summary: 'Take machines out of rotation',
        load: async () => (await import('./machine/cordon.ts')).cordonCommand,
      },
      {
        words: ['machine', 'uncordon'],
        summary: 'Let machines be sent requests again',
        load: async () => (await import('./machine/cordon.ts')).uncordonCommand,
      },
      {
        words: ['machine', 'leases'],
        summary: 'See and end leases: who alone may change a machine',
        load: () => import('./machine/leases.ts'),
      },
      {
        words: ['machine', 'destroy'],
        summary: 'Destroy machines',
        load: () => import('./machine/destroy.ts'),
      },
      {
        words: ['machine', 'exec'],
        summary: 'Run a command in a machine',
        load: () => import('./machine/exec.ts'),
      },
      {
        words: ['secrets', 'set'],
        summary: 'Set secrets and roll them out',
        load: () => import('./secrets/set.ts'),
      },
      {
        words: ['secrets', 'list'],
        summary: 'Names and digests of secrets',
        load: () => import('./secrets/list.ts'),
      },
      {
        words: ['secrets', 'unset'],
        summary: 'Remove secrets and roll that out',
        load: () => import('./secrets/unset.ts'),
      },
      {
        words: ['certs', 'add'],
        summary: 'Let a name of your own lead to an app',
        load: () => import('./certs/add.ts'),
      },
      {
        words: ['certs', 'list'],
        summary: 'Names of your own that lead to an app',
        load: () => import('./certs/list.ts'),
      },
      {
        words: ['certs', 'show'],
        summary: 'One name and its certificates',
        load: () => import('./certs/show.ts'),
      },
      {
        words: ['certs', 'check'],
        summary: 'Which DNS record is missing or wrong; order now',
        load: () => import('./certs/check.ts'),
      },
      {
        words: ['certs', 'import'],
        summary: 'Serve a certificate that you have',
        load: () => import('./certs/import.ts'),
      },
      {
        words: ['certs', 'remove'],
        summary: 'Take a name away from an app',
        load: () => import('./certs/remove.ts'),
      },
      {
        words: ['scale', 'count'],
        summary: 'Set how many machines run in which region',
        load: () => import('./scale/count.ts'),
      },
      {
        words: ['scale', 'vm'],
        summary: 'Set the size of machines',
        load: async () => (await import('./scale/size.ts')).vmCommand,
      },
      {
        words: ['scale', 'memory'],
        summary: 'Set the memory of machines',
        load: async () => (await import('./scale/size.ts')).memoryCommand,
      },
      {
        words: ['scale', 'show'],
        summary: 'How many machines run in which region',
        load: () => import('./scale/show.ts'),
      },
    ],
  },
  {
    title: 'Look inside',
    commands: [
      {
        words: ['ssh', 'console'],
        summary: 'A shell in a machine that runs, or a command',
        load: () => import('./ssh/console.ts'),
      },
      {
        words: ['ssh', 'log'],
        summary: 'Who was in the machines of an app, and what ran there',
        load: () => import('./ssh/log.ts'),
      },
      {
        words: ['console'],
        summary: 'A shell in a new machine of the app, gone when you leave',
        load: () => import('./console/console.ts'),
      },
      {
        words: ['sftp', 'get'],
        summary: 'Copy a file or folder of a machine here',
        load: () => import('./sftp/get.ts'),
      },
      {
        words: ['sftp', 'put'],
        summary: 'Copy a file or folder into a machine',
        load: () => import('./sftp/put.ts'),
      },
      {
        words: ['sftp', 'ls'],
        summary: 'What is in a folder of a machine',
        load: async () => (await import('./sftp/list.ts')).lsCommand,
      },
      {
        words: ['sftp', 'find'],
        summary: 'All paths below a folder of a machine',
        load: async () => (await import('./sftp/list.ts')).findCommand,
      },
      {
        words: ['proxy'],
        summary: 'Make a port of a machine a port here',
        load: () => import('./proxy/proxy.ts'),
      },
    ],
  },
  {
    title: 'Servers',
    commands: [
      {
        words: ['up'],
        summary: 'Make this machine a host',
        load: async () => (await import('./host/commands.ts')).upCommand,
      },
      {
        words: ['down'],
        summary: 'Stop everything of this host',
        load: async () => (await import('./host/commands.ts')).downCommand,
      },
      {
        words: ['playground', 'up'],
        summary: 'Raise simulated hosts on this machine',
        load: async () => (await import('./playground/commands.ts')).upCommand,
      },
      {
        words: ['playground', 'status'],
        summary: 'What runs where, and how it is reached',
        load: async () => (await import('./playground/commands.ts')).statusCommand,
      },
      {
        words: ['playground', 'fault'],
        summary: 'Break it on purpose',
        load: async () => (await import('./playground/commands.ts')).faultCommand,
      },
      {
        words: ['playground', 'down'],
        summary: 'Remove everything of it from this machine',
        load: async () => (await import('./playground/commands.ts')).downCommand,
      },
      {
        words: ['mirror', 'seed'],
        summary: 'Bring base images into the registry',
        load: async () => (await import('./mirror/commands.ts')).seedCommand,
      },
      {
        words: ['mirror', 'list'],
        summary: 'Base images, and whether the registry has them',
        load: async () => (await import('./mirror/commands.ts')).listCommand,
      },
      {
        words: ['regions'],
        summary: 'Regions with hosts',
        load: () => import('./regions/regions.ts'),
      },
      {
        words: ['hosts'],
        summary: 'Hosts and their state',
        load: () => import('./hosts/hosts.ts'),
      },
      {
        words: ['doctor'],
        summary: 'What is wrong, what takes room, and what mends it',
        load: () => import('./doctor/doctor.ts'),
      },
      {
        words: ['registry', 'usage'],
        summary: 'What takes room in the image store',
        load: () => import('./registry/usage.ts'),
      },
      {
        words: ['registry', 'collect'],
        summary: 'Remove images that no release can return to',
        load: () => import('./registry/collect.ts'),
      },
      {
        words: ['auth', 'login'],
        summary: 'Remember a server and a token for it',
        load: () => import('./auth/login.ts'),
      },
      {
        words: ['auth', 'whoami'],
        summary: 'Which server is used, and what the token may do',
        load: () => import('./auth/whoami.ts'),
      },
      {
        words: ['tokens', 'create'],
        summary: 'Make a token that allows no more than yours',
        load: () => import('./tokens/create.ts'),
      },
      {
        words: ['tokens', 'list'],
        summary: 'Tokens, until when they live and when they were used',
        load: () => import('./tokens/list.ts'),
      },
      {
        words: ['tokens', 'revoke'],
        summary: 'End tokens, and what they hold open',
        load: () => import('./tokens/revoke.ts'),
      },
      {
        words: ['context', 'list'],
        summary: 'Servers that you are logged in to',
        load: () => import('./context/list.ts'),
      },
      {
        words: ['context', 'use'],
        summary: 'Speak to another server from now on',
        load: () => import('./context/use.ts'),
      },
      {
        words: ['context', 'show'],
        summary: 'Which server commands speak to from here',
        load: () => import('./context/show.ts'),
      },
      {
        words: ['context', 'remove'],
        summary: 'Forget servers and their tokens',
        load: () => import('./context/remove.ts'),
      },
      {
        words: ['completion'],
        summary: 'Let a shell complete commands, flags, apps and machines',
        load: () => import('./completion/completion.ts'),
      },
      {
        words: ['manual'],
        summary: 'The manual page, for man',
        load: () => import('./manual/manual.ts'),
      },
      {
        words: ['auth', 'logout'],
        summary: 'Forget a server and its token',
        load: () => import('./auth/logout.ts'),
      },
    ],
  },
]
