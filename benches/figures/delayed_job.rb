# delayed_job on the same MariaDB: `put N` puts jobs in that run `true` as a process, `work` executes what is there and exits.
require "active_record"
require "mysql2"
require "logger"
require "delayed_job_active_record"

ActiveRecord::Base.establish_connection(adapter: "mysql2", host: "127.0.0.1", port: Integer(ENV.fetch("PORT")),
                                        username: "bench", password: "bench", database: "bench")
ActiveRecord::Base.logger = nil
Delayed::Worker.logger = Logger.new(File::NULL)

class RunTrue
  def perform
    system("true") or raise "true failed"
  end
end

case ARGV.fetch(0)
when "put"
  unless ActiveRecord::Base.connection.table_exists?(:delayed_jobs)
    ActiveRecord::Schema.verbose = false
    ActiveRecord::Schema.define do
      create_table :delayed_jobs do |t|
        t.integer :priority, default: 0, null: false
        t.integer :attempts, default: 0, null: false
        t.text :handler, null: false
        t.text :last_error
        t.datetime :run_at, :locked_at, :failed_at
        t.string :locked_by, :queue
        t.timestamps null: true
      end
      add_index :delayed_jobs, [:priority, :run_at], name: "delayed_jobs_priority"
    end
  end
  Integer(ARGV.fetch(1)).times { Delayed::Job.enqueue(RunTrue.new) }
when "work"
  worker = Delayed::Worker.new(exit_on_complete: true, quiet: true)
  worker.name = "bench-#{Process.pid}"
  worker.start
end
